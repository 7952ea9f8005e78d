/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Prints the contents of a libaio.h: sizes, offsets, constants, and the bytes that its inline functions write. */
#include <libaio.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>

/* Must be compatible with the header's. */
extern int io_queue_init(int, io_context_t *);
extern int io_queue_release(io_context_t);
extern int io_queue_run(io_context_t);
extern int io_setup(int, io_context_t *);
extern int io_destroy(io_context_t);
extern int io_submit(io_context_t, long, struct iocb *[]);
extern int io_cancel(io_context_t, struct iocb *, struct io_event *);
extern int io_getevents(io_context_t, long, long, struct io_event *, struct timespec *);
extern int io_pgetevents(io_context_t, long, long, struct io_event *, struct timespec *, sigset_t *);

#define SIZE(t) printf("sizeof %s %zu align %zu\n", #t, sizeof(t), _Alignof(t))
#define OFFSET(t, f) printf("%s.%s at %zu, %zu bytes\n", #t, #f, offsetof(t, f), sizeof(((t *)0)->f))
#define VALUE(v) printf("%s %lld\n", #v, (long long)(v))

static struct iocb *submitted;
int io_submit(io_context_t ctx, long nr, struct iocb *list[])
{
    (void)ctx;
    submitted = list[0];
    return (int)nr + 40;
}

static void dump(const char *what, const struct iocb *cb)
{
    printf("%s:", what);
    for (size_t i = 0; i < sizeof(*cb); i++)
        printf(" %02x", ((const unsigned char *)cb)[i]);
    putchar('\n');
}

static void callback(io_context_t ctx, struct iocb *cb, long res, long res2)
{
    (void)ctx, (void)cb, (void)res, (void)res2;
}

int main(void)
{
    struct iocb cb;
    io_callback_t call = callback;
    void *buf = (void *)0x1122334455667788;
    const struct iovec *iov = (const struct iovec *)0x1020304050607080;

    SIZE(struct iocb);
    SIZE(struct io_event);
    SIZE(struct io_iocb_common);
    SIZE(struct io_iocb_vector);
    SIZE(struct io_iocb_poll);
    SIZE(io_context_t);
    SIZE(io_callback_t);
    OFFSET(struct iocb, data);
    OFFSET(struct iocb, key);
    OFFSET(struct iocb, aio_rw_flags);
    OFFSET(struct iocb, aio_lio_opcode);
    OFFSET(struct iocb, aio_reqprio);
    OFFSET(struct iocb, aio_fildes);
    OFFSET(struct iocb, u);
    OFFSET(struct iocb, u.c.buf);
    OFFSET(struct iocb, u.c.nbytes);
    OFFSET(struct iocb, u.c.offset);
    OFFSET(struct iocb, u.c.flags);
    OFFSET(struct iocb, u.c.resfd);
    OFFSET(struct iocb, u.v.vec);
    OFFSET(struct iocb, u.v.nr);
    OFFSET(struct iocb, u.v.offset);
    OFFSET(struct iocb, u.poll.events);
    OFFSET(struct io_event, data);
    OFFSET(struct io_event, obj);
    OFFSET(struct io_event, res);
    OFFSET(struct io_event, res2);
    VALUE(IO_CMD_PREAD);
    VALUE(IO_CMD_PWRITE);
    VALUE(IO_CMD_FSYNC);
    VALUE(IO_CMD_FDSYNC);
    VALUE(IO_CMD_POLL);
    VALUE(IO_CMD_NOOP);
    VALUE(IO_CMD_PREADV);
    VALUE(IO_CMD_PWRITEV);
    VALUE(sizeof(io_iocb_cmd_t));
    io_prep_pread(&cb, 5, buf, 77, 0x123456789);
    dump("pread", &cb);
    io_prep_pwrite(&cb, 5, buf, 77, 0x123456789);
    dump("pwrite", &cb);
    io_prep_preadv(&cb, 5, iov, 3, -1);
    dump("preadv", &cb);
    io_prep_pwritev(&cb, 5, iov, 3, 9);
    dump("pwritev", &cb);
    io_prep_preadv2(&cb, 5, iov, 3, 9, 8);
    dump("preadv2", &cb);
    io_prep_pwritev2(&cb, 5, iov, 3, 9, 16);
    dump("pwritev2", &cb);
    io_prep_poll(&cb, 5, 0x2019);
    dump("poll", &cb);
    io_prep_fsync(&cb, 5);
    dump("fsync", &cb);
    io_prep_fdsync(&cb, 5);
    io_set_eventfd(&cb, 9);
    dump("fdsync with an eventfd", &cb);
    io_set_callback(&cb, call);
    printf("callback %d\n", cb.data == (void *)call);
    printf("io_poll %d", io_poll(NULL, &cb, call, 7, 1));
    printf(" %d %d\n", submitted == &cb, cb.data == (void *)call);
    cb.data = NULL;
    dump("io_poll", &cb);
    printf("io_fsync %d", io_fsync(NULL, &cb, call, 7));
    printf(" %d %d\n", submitted == &cb, cb.data == (void *)call);
    printf("io_fdsync %d", io_fdsync(NULL, &cb, call, 7));
    printf(" %d %d\n", submitted == &cb, cb.data == (void *)call);
    return 0;
}
