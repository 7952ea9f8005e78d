/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * libaio's functions, in its versions. Each of them calls libaio2.so's. They make an object libaio.so.1. They also make it enough to
 * preload one object: its functions come before the real libaio's, whereas the objects that it needs come after.
 *
 * It has no state of its own, so a process that also has libaio2.so by name has everything only once.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

typedef void *context;
typedef struct timespec timespec;

/* X(name in this file, name, version, how it is bound, parameters, arguments) */
#define FUNCTIONS                                                                                                            \
    X(queue_init, io_queue_init, LIBAIO_0.1, @@, (int n, context *ctx), (n, ctx))                                            \
    X(queue_run, io_queue_run, LIBAIO_0.1, @@, (context ctx), (ctx))                                                         \
    X(queue_release, io_queue_release, LIBAIO_0.1, @@, (context ctx), (ctx))                                                 \
    X(submit, io_submit, LIBAIO_0.1, @@, (context ctx, long n, void *iocbs), (ctx, n, iocbs))                                \
    X(queue_wait_1, io_queue_wait, LIBAIO_0.1, @, (context ctx, timespec *limit), (ctx, limit))                              \
    X(cancel_1, io_cancel, LIBAIO_0.1, @, (context ctx, void *iocb), (ctx, iocb))                                            \
    X(getevents_1, io_getevents, LIBAIO_0.1, @, (context ctx, long n, void *events, timespec *limit), (ctx, n, events, limit)) \
    X(setup, io_setup, LIBAIO_0.4, @@, (int n, context *ctx), (n, ctx))                                                      \
    X(destroy, io_destroy, LIBAIO_0.4, @@, (context ctx), (ctx))                                                             \
    X(queue_wait, io_queue_wait, LIBAIO_0.4, @@, (context ctx, timespec *limit), (ctx, limit))                               \
    X(cancel, io_cancel, LIBAIO_0.4, @@, (context ctx, void *iocb, void *event), (ctx, iocb, event))                         \
    X(getevents, io_getevents, LIBAIO_0.4, @@, (context ctx, long least, long n, void *events, timespec *limit),             \
      (ctx, least, n, events, limit))                                                                                        \
    X(pgetevents, io_pgetevents, LIBAIO_0.5, @@,                                                                             \
      (context ctx, long least, long n, void *events, timespec *limit, sigset_t *mask), (ctx, least, n, events, limit, mask))

#define X(id, name, version, bound, parameters, arguments) static int (*libaio2_##id) parameters;
FUNCTIONS
#undef X

/*
 * Not by RTLD_NEXT: if libaio2.so is preloaded by its own name, it comes before this object. It is loaded already, because this object
 * needs it, and is initialised before it.
 */
__attribute__((constructor)) static void find_libaio2(void)
{
    void *libaio2 = dlopen("libaio2.so.0", RTLD_NOW | RTLD_NOLOAD);

    if (libaio2 == NULL)
        return;
#define X(id, name, version, bound, parameters, arguments) \
    libaio2_##id = (int (*) parameters)(uintptr_t)dlvsym(libaio2, #name, #version);
    FUNCTIONS
#undef X
}

#define X(id, name, version, bound, parameters, arguments)                          \
    __asm__(".symver aio2_libaio_" #id ", " #name #bound #version ", remove");      \
    int aio2_libaio_##id parameters;                                                \
    int aio2_libaio_##id parameters                                                 \
    {                                                                               \
        if (libaio2_##id == NULL)                                                   \
            find_libaio2();                                                         \
        return libaio2_##id == NULL ? -ENOSYS : libaio2_##id arguments;             \
    }
FUNCTIONS
