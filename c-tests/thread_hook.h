/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* pthread_create in the program's place of the C library's, that fails on request. Included after test.h. */
#ifndef AIO2_THREAD_HOOK_H
#define AIO2_THREAD_HOOK_H

#include <dlfcn.h>

/* How many creations may still succeed; or, if negative, every so many-th does not. */
static int allowed;
static int calls;
static int failures;

/* Takes the place of the C library's for the library, too. */
int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    int left = __atomic_load_n(&allowed, __ATOMIC_RELAXED);
    int call = __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);

    if (left >= 0 ? __atomic_fetch_sub(&allowed, 1, __ATOMIC_RELAXED) <= 0 : call % -left == 0) {
        if (left >= 0)
            __atomic_fetch_add(&allowed, 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(&failures, 1, __ATOMIC_RELAXED);
        return EAGAIN;
    }
    *(void **)(void *)&real = dlsym(RTLD_NEXT, "pthread_create");
    return real(thread, attr, run, arg);
}

#endif /* AIO2_THREAD_HOOK_H */
