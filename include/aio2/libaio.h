/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The interface of libaio, for programs that are written for it and built on a machine without its header:
 *
 *     cc -I/usr/local/include/aio2 program.c -L/usr/local/lib/aio2 -laio -Wl,-rpath,/usr/local/lib/aio2
 *
 * Types, names and values are libaio's (and the kernel's: linux/aio_abi.h), for Linux on x86_64 and aarch64. All
 * calls return a value >= 0 or a negative errno, and leave errno alone. They work as the kernel's do, except that
 * io_submit() does not wait for I/O: aio2_libaio(7) has the differences.
 */
#ifndef __LIBAIO_H
#define __LIBAIO_H

#include <signal.h>
#include <string.h>
#include <sys/select.h> /* sigset_t, also in strict C */
#include <sys/types.h>

#if !defined(__LP64__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "libaio2 is for Linux on x86_64 and aarch64"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Strict C89 has no such type. */
__extension__ typedef long long aio2_libaio_offset_t;

struct timespec;
struct sockaddr;
struct iovec;

/* A context: the address of its ring. */
typedef struct io_context *io_context_t;

typedef enum io_iocb_cmd {
    IO_CMD_PREAD = 0,
    IO_CMD_PWRITE = 1,
    IO_CMD_FSYNC = 2,
    IO_CMD_FDSYNC = 3,
    IO_CMD_POLL = 5,
    IO_CMD_NOOP = 6,
    IO_CMD_PREADV = 7,
    IO_CMD_PWRITEV = 8
} io_iocb_cmd_t;

/* The views of a request's fields. An event's `res` is what read(2), write(2) ... return, or a negative errno. */

struct io_iocb_poll {
    int events; /* of poll(2); `res` has those that are there */
    unsigned __pad1;
};

struct io_iocb_sockaddr {
    struct sockaddr *addr;
    unsigned long len;
};

struct io_iocb_common {
    void *buf;
    unsigned long nbytes;
    aio2_libaio_offset_t offset;
    aio2_libaio_offset_t __pad3; /* 0 */
    unsigned flags;   /* 1: `resfd` is an eventfd to tell; 2: `aio_reqprio` is an I/O priority */
    unsigned resfd;
};

struct io_iocb_vector {
    const struct iovec *vec;
    unsigned long nr;
    aio2_libaio_offset_t offset;
};

struct iocb {
    void *data; /* given back in the event */
    unsigned key;
    unsigned aio_rw_flags; /* RWF_* */
    short aio_lio_opcode;  /* IO_CMD_* */
    short aio_reqprio;
    int aio_fildes;
    union {
        struct io_iocb_common c;
        struct io_iocb_vector v;
        struct io_iocb_poll poll;
        struct io_iocb_sockaddr saddr;
    } u;
};

struct io_event {
    void *data;
    struct iocb *obj; /* the request's address */
    unsigned long res;
    unsigned long res2;
};

typedef void (*io_callback_t)(io_context_t ctx, struct iocb *iocb, long res, long res2);

extern int io_setup(int maxevents, io_context_t *ctxp);
extern int io_destroy(io_context_t ctx);
extern int io_submit(io_context_t ctx, long nr, struct iocb *ios[]);
extern int io_cancel(io_context_t ctx, struct iocb *iocb, struct io_event *evt);
extern int io_getevents(io_context_t ctx, long min_nr, long nr, struct io_event *events, struct timespec *timeout);
extern int io_pgetevents(io_context_t ctx, long min_nr, long nr, struct io_event *events, struct timespec *timeout,
                         sigset_t *sigmask);

extern int io_queue_init(int maxevents, io_context_t *ctxp);
extern int io_queue_release(io_context_t ctx);
/* Calls the callback of every event that there is: see io_set_callback(). */
extern int io_queue_run(io_context_t ctx);

static __inline__ void io_set_callback(struct iocb *iocb, io_callback_t cb)
{
    /* By a number: C has no other way between the two kinds of pointers. */
    iocb->data = (void *)(unsigned long)cb;
}

static __inline__ void io_set_eventfd(struct iocb *iocb, int eventfd)
{
    iocb->u.c.flags |= 1;
    iocb->u.c.resfd = (unsigned)eventfd;
}

static __inline__ void io_prep_pread(struct iocb *iocb, int fd, void *buf, size_t count, aio2_libaio_offset_t offset)
{
    memset(iocb, 0, sizeof(*iocb));
    iocb->aio_lio_opcode = IO_CMD_PREAD;
    iocb->aio_fildes = fd;
    iocb->u.c.buf = buf;
    iocb->u.c.nbytes = count;
    iocb->u.c.offset = offset;
}

static __inline__ void io_prep_pwrite(struct iocb *iocb, int fd, void *buf, size_t count, aio2_libaio_offset_t offset)
{
    io_prep_pread(iocb, fd, buf, count, offset);
    iocb->aio_lio_opcode = IO_CMD_PWRITE;
}

static __inline__ void io_prep_preadv2(struct iocb *iocb, int fd, const struct iovec *iov, int iovcnt, aio2_libaio_offset_t offset,
                                   int flags)
{
    memset(iocb, 0, sizeof(*iocb));
    iocb->aio_lio_opcode = IO_CMD_PREADV;
    iocb->aio_fildes = fd;
    iocb->aio_rw_flags = (unsigned)flags;
    iocb->u.v.vec = iov;
    iocb->u.v.nr = (unsigned long)iovcnt;
    iocb->u.v.offset = offset;
}

static __inline__ void io_prep_pwritev2(struct iocb *iocb, int fd, const struct iovec *iov, int iovcnt, aio2_libaio_offset_t offset,
                                    int flags)
{
    io_prep_preadv2(iocb, fd, iov, iovcnt, offset, flags);
    iocb->aio_lio_opcode = IO_CMD_PWRITEV;
}

static __inline__ void io_prep_preadv(struct iocb *iocb, int fd, const struct iovec *iov, int iovcnt, aio2_libaio_offset_t offset)
{
    io_prep_preadv2(iocb, fd, iov, iovcnt, offset, 0);
}

static __inline__ void io_prep_pwritev(struct iocb *iocb, int fd, const struct iovec *iov, int iovcnt, aio2_libaio_offset_t offset)
{
    io_prep_pwritev2(iocb, fd, iov, iovcnt, offset, 0);
}

static __inline__ void io_prep_poll(struct iocb *iocb, int fd, int events)
{
    memset(iocb, 0, sizeof(*iocb));
    iocb->aio_lio_opcode = IO_CMD_POLL;
    iocb->aio_fildes = fd;
    iocb->u.poll.events = events;
}

static __inline__ void io_prep_fsync(struct iocb *iocb, int fd)
{
    memset(iocb, 0, sizeof(*iocb));
    iocb->aio_lio_opcode = IO_CMD_FSYNC;
    iocb->aio_fildes = fd;
}

static __inline__ void io_prep_fdsync(struct iocb *iocb, int fd)
{
    io_prep_fsync(iocb, fd);
    iocb->aio_lio_opcode = IO_CMD_FDSYNC;
}

static __inline__ int io_poll(io_context_t ctx, struct iocb *iocb, io_callback_t cb, int fd, int events)
{
    io_prep_poll(iocb, fd, events);
    io_set_callback(iocb, cb);
    return io_submit(ctx, 1, &iocb);
}

static __inline__ int io_fsync(io_context_t ctx, struct iocb *iocb, io_callback_t cb, int fd)
{
    io_prep_fsync(iocb, fd);
    io_set_callback(iocb, cb);
    return io_submit(ctx, 1, &iocb);
}

static __inline__ int io_fdsync(io_context_t ctx, struct iocb *iocb, io_callback_t cb, int fd)
{
    io_prep_fdsync(iocb, fd);
    io_set_callback(iocb, cb);
    return io_submit(ctx, 1, &iocb);
}

#ifdef __cplusplus
}
#endif

#endif /* __LIBAIO_H */
