/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * libaio2: asynchronous system calls with attributes, a shared completion ring, in user space.
 *
 * Generated from src/abi.rs, src/personality/aio2.rs and src/inline.h. Do not edit.
 *
 * All calls return a value >= 0 or a negative errno, and leave errno alone. Any thread may call any
 * function on one context at once; none of them may be called from a signal handler. Sizes are in
 * bytes, integers in native byte order, records aligned to 8 bytes. Pointers that are neither NULL
 * nor garbage handles are used as they are: memory that the caller names must be there.
 */

#ifndef AIO2_H
#define AIO2_H

#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

/**
 * The version to give to io_setup2().
 */
#define IO_SETUP2_VERSION 2

/**
 * `iocb2.nr` of a request that makes no system call; its `res` is 0.
 */
#define IOCB2_NOP 0xffffffffu

/**
 * Most bytes of attributes in one request.
 */
#define IOCB2_ATTR_BYTES_MAX 4096

/**
 * `io_ring2.magic`.
 */
#define IO_RING2_MAGIC 0xa10a10a2u

/**
 * `io_ring2.version`.
 */
#define IO_RING2_VERSION 2

/**
 * `io_ring2.flags`: events wait on the overflow list; call io_getevents2().
 */
#define IO_RING2_OVERFLOW 1

/**
 * Attribute flag: refuse the request (its system call is not made) if this attribute is not
 * handled. `res` is then the `ret` of the first such attribute: -EOPNOTSUPP if it is not known,
 * -EINVAL if it is wrong or a duplicate.
 */
#define IOCB_ATTR_F_REQUIRED 1

/**
 * Attribute: when the request was submitted, began and ended. No payload in; struct
 * iocb_timing out. It does not change how the request is carried out.
 */
#define IOCB_ATTR_TIMING 1

/**
 * Attribute: page cache hit or miss of a buffered read. No payload in; struct iocb_cache out.
 *
 * For pread64, preadv and preadv2 of a regular file or a block device that was opened without
 * O_DIRECT. For any other call, file or kernel that cannot say, `ret` is -EOPNOTSUPP. It does not
 * change how the request is carried out, with two exceptions, which would change the answer: the
 * device is not told of the read before it begins, and a thread that waits for events with a timeout
 * does not try it first.
 */
#define IOCB_ATTR_CACHE 2

/**
 * Attribute: I/O priority of this request alone. struct iocb_ioprio in, no payload out.
 *
 * A priority that there is not, or reserved bits that are set: `ret` is -EINVAL. One that the
 * process may not use: -EPERM.
 */
#define IOCB_ATTR_IOPRIO 3

/**
 * Attribute: the latest time at which the request may begin. struct iocb_deadline in, no payload
 * out. A request that has not begun by then is not made: when its turn comes its `res` is
 * -ETIMEDOUT.
 */
#define IOCB_ATTR_DEADLINE 4

/**
 * Attribute: begins after everything submitted before it on this context has completed, and
 * nothing submitted later begins before it has completed. No payload.
 */
#define IOCB_ATTR_DRAIN 5

/**
 * Attribute: the next request in the same submit begins only after this one has succeeded in full
 * (`res` >= 0, and for reads and writes every byte asked for); else it and the rest of the chain
 * get -ECANCELED. No payload.
 */
#define IOCB_ATTR_LINK 6

/**
 * Attribute: which thread and processor carried the request out. No payload in; struct
 * iocb_worker out. It does not change how the request is carried out: the thread may be one of the
 * library's, or one of the program's that submits or waits for events. If the kernel's AIO carried the
 * request out, it is the thread that handed it over.
 */
#define IOCB_ATTR_WORKER 7

/**
 * Attribute: which way the request was carried out. No payload in; struct iocb_route out.
 */
#define IOCB_ATTR_ROUTE 8

/**
 * The first of the attribute numbers that are never assigned: for tests and private use.
 */
#define IOCB_ATTR_PRIVATE 0x8000u

/**
 * Feature: IOCB_ATTR_TIMING is handled. Bits 1 to 31 of the features stand for the attribute of
 * that number; an attribute whose bit is clear gets `ret` = -EOPNOTSUPP.
 */
#define IO_FEAT2_ATTR_TIMING 2

/**
 * Feature: IOCB_ATTR_CACHE is handled.
 */
#define IO_FEAT2_ATTR_CACHE 4

/**
 * Feature: IOCB_ATTR_IOPRIO is handled.
 */
#define IO_FEAT2_ATTR_IOPRIO 8

/**
 * Feature: IOCB_ATTR_DEADLINE is handled.
 */
#define IO_FEAT2_ATTR_DEADLINE 16

/**
 * Feature: IOCB_ATTR_DRAIN is handled.
 */
#define IO_FEAT2_ATTR_DRAIN 32

/**
 * Feature: IOCB_ATTR_LINK is handled.
 */
#define IO_FEAT2_ATTR_LINK 64

/**
 * Feature: IOCB_ATTR_WORKER is handled.
 */
#define IO_FEAT2_ATTR_WORKER 128

/**
 * Feature: IOCB_ATTR_ROUTE is handled.
 */
#define IO_FEAT2_ATTR_ROUTE 256

/**
 * Feature: the descriptor that io_ring_fd2() gives can be mapped for reading only, whatever its
 * holder tries (the memory is sealed against new writers; Linux 5.1 or later).
 */
#define IO_FEAT2_RING_SEALED 0x100000000ull

/**
 * `iocb_route.route`: the system call was not made: the request was cancelled, refused, or too
 * late. A no-op is carried out like any other request.
 */
#define IOCB_ROUTE_NOT_MADE 0

/**
 * `iocb_route.route`: a thread of the program carried the request out, within a call of the library.
 */
#define IOCB_ROUTE_INLINE 1

/**
 * `iocb_route.route`: a worker thread carried the request out.
 */
#define IOCB_ROUTE_THREAD 2

/**
 * `iocb_route.route`: the request was handed over to the kernel's AIO.
 */
#define IOCB_ROUTE_KERNEL_AIO 3

/**
 * `iocb_route.route`: the request was handed over to io_uring. This version does not do that.
 */
#define IOCB_ROUTE_IO_URING 4

/**
 * `iocb_route.route`: the request waited until its file (a pipe, a socket, an eventfd) was ready,
 * without a thread of its own, and a worker thread then carried it out; or it was interrupted
 * while it waited.
 */
#define IOCB_ROUTE_READINESS 5

/**
 * `iocb_route.flags`: the kernel carried the request out together with others that follow each
 * other in the same file, as one read or write.
 */
#define IOCB_ROUTE_F_MERGED 1

/**
 * What io_setup2() is asked for, and what it made.
 */
struct io_setup2_params {
  /**
   * In: sizeof(struct io_setup2_params) as the caller knows it (at least 4, else -EINVAL).
   */
  uint32_t bytes;
  /**
   * In: none defined yet; an unknown bit: -EINVAL.
   */
  uint32_t flags;
  /**
   * In: bytes of events the ring holds; 0 = 64 KiB; at most 1 GiB, else -EINVAL. Out: what was
   * made, a power of two, at least a page.
   */
  uint32_t ring_bytes;
  /**
   * In: most requests in flight (accepted, their event not yet produced); 0 = 65536. The size
   * of the ring does not limit it.
   */
  uint32_t max_requests;
  /**
   * In: most worker threads for this context's requests at a time; 0 = automatic.
   */
  uint32_t workers;
  /**
   * In: at least 1 is added to this eventfd after events have been published; -1 = none. The
   * library keeps a duplicate: the caller may close its own. Not open: -EBADF. Not an eventfd:
   * -EINVAL; but 0 where descriptor 0 is no eventfd means none, so that a zeroed structure
   * works.
   */
  int32_t eventfd;
  /**
   * Out: IO_FEAT2_*.
   */
  uint64_t features;
  /**
   * In: zero, else -EINVAL.
   */
  uint64_t reserved[4];
};

/**
 * The header of the shared ring. The data area begins `header_bytes` after it.
 *
 * A program reads it, and writes `head` (through io_ring2_reap()) and nothing else. What it
 * writes elsewhere can cost it its own events, never more.
 */
struct io_ring2 {
  /**
   * IO_RING2_MAGIC.
   */
  uint32_t magic;
  /**
   * IO_RING2_VERSION.
   */
  uint32_t version;
  /**
   * The data area begins this far from the header.
   */
  uint32_t header_bytes;
  /**
   * Size of the data area, a power of two.
   */
  uint32_t ring_bytes;
  /**
   * IO_FEAT2_*: what this library and kernel can do.
   */
  uint64_t features;
  /**
   * Unique in the process, never reused.
   */
  uint64_t id;
  /**
   * Zero.
   */
  uint64_t reserved0[4];
  /**
   * Bytes ever published, free-running, wraps at 2^32. Written by the library.
   */
  uint32_t tail;
  /**
   * IO_RING2_OVERFLOW. Written by the library.
   */
  uint32_t flags;
  /**
   * Requests ever accepted. Written by the library.
   */
  uint64_t submitted;
  /**
   * Events ever produced, the overflow list's included. Written by the library.
   */
  uint64_t completed;
  /**
   * Events that ever took the overflow list. Written by the library.
   */
  uint64_t overflowed;
  /**
   * Zero.
   */
  uint64_t reserved1[4];
  /**
   * Bytes ever reaped, free-running. Written by whoever reaps.
   */
  uint32_t head;
  /**
   * Zero, as is the rest up to header_bytes.
   */
  uint32_t reserved2;
};

/**
 * A context: the address of the ring's mapping in this process.
 */
typedef struct io_ring2 *io_context2_t;

/**
 * A request: 64 bytes, then attributes (struct iocb_attr records, one after another).
 *
 * Aligned to 8 bytes. It is copied at submit: the caller may reuse it at once. The memory that
 * `args` point to must stay valid, and descriptors open, until the request's event arrives.
 */
struct iocb2 {
  /**
   * The whole record, attributes included; a multiple of 8, from 64 to 64 + 4096.
   */
  uint32_t bytes;
  /**
   * System call number (SYS_pread64 ...), or IOCB2_NOP.
   */
  uint32_t nr;
  /**
   * Given back in io_event2.data.
   */
  uint64_t data;
  /**
   * The system call's arguments.
   */
  uint64_t args[6];
};

/**
 * A completion: 24 bytes, then attribute returns (struct iocb_attr_ret records), in the order of
 * the request's attributes.
 */
struct io_event2 {
  /**
   * The whole record; a multiple of 8.
   */
  uint32_t bytes;
  /**
   * 0; bits may be added: ignore those you don't know.
   */
  uint32_t flags;
  /**
   * From the request.
   */
  uint64_t data;
  /**
   * What the system call returned, or -errno.
   */
  int64_t res;
};

/**
 * An attribute of a request: 16 bytes, then the attribute's own payload.
 */
struct iocb_attr {
  /**
   * The whole attribute; a multiple of 8, at least 16.
   */
  uint16_t bytes;
  /**
   * IOCB_ATTR_*.
   */
  uint16_t id;
  /**
   * IOCB_ATTR_F_*. An unknown bit on a known attribute: the attribute's `ret` is -EINVAL.
   */
  uint32_t flags;
  /**
   * Given back in the return.
   */
  uint64_t cookie;
};

/**
 * The answer to an attribute: 16 bytes, then the return's own payload.
 */
struct iocb_attr_ret {
  /**
   * The whole return; a multiple of 8.
   */
  uint16_t bytes;
  /**
   * The attribute's id.
   */
  uint16_t id;
  /**
   * 0: handled, payload valid. -EOPNOTSUPP: not known or not handled here. Other -errno: it
   * could not be handled. A payload that follows a `ret` other than 0 is zeros.
   */
  int32_t ret;
  /**
   * From the attribute.
   */
  uint64_t cookie;
};

/**
 * Payload of IOCB_ATTR_TIMING's return: CLOCK_MONOTONIC, in nanoseconds.
 *
 * For a request whose system call was not made (cancelled, refused), `start_ns` and `end_ns` are
 * both the time at which it was completed.
 */
struct iocb_timing {
  /**
   * When the request was submitted.
   */
  uint64_t submit_ns;
  /**
   * When its system call began; or, if the kernel's AIO carried it out, when it was handed over.
   */
  uint64_t start_ns;
  /**
   * When its system call returned; or when it was taken back from the kernel's AIO.
   */
  uint64_t end_ns;
};

/**
 * Payload of IOCB_ATTR_CACHE's return.
 */
struct iocb_cache {
  /**
   * 1: the whole request was served without waiting for the device. 0: it was not.
   */
  uint32_t hit;
  /**
   * Zero.
   */
  uint32_t reserved;
  /**
   * Of the bytes asked for, those that were in the page cache before the request began. May be
   * less than the request read although it was a hit: a hole need not be in the cache.
   */
  uint64_t bytes_cached;
  /**
   * The bytes that the request asked for, also if the file ends before.
   */
  uint64_t bytes_asked;
};

/**
 * Payload of IOCB_ATTR_IOPRIO.
 */
struct iocb_ioprio {
  /**
   * As for ioprio_set(2): the class in bits 13 to 15, the level in the lower ones.
   */
  uint32_t ioprio;
  /**
   * Zero.
   */
  uint32_t reserved;
};

/**
 * Payload of IOCB_ATTR_DEADLINE.
 */
struct iocb_deadline {
  /**
   * CLOCK_MONOTONIC, in nanoseconds.
   */
  uint64_t ns;
};

/**
 * Payload of IOCB_ATTR_WORKER's return. For a request whose system call was not made (cancelled,
 * refused) `ret` is -ECANCELED, as it is for IOCB_ATTR_CACHE.
 */
struct iocb_worker {
  /**
   * The thread (gettid(2)).
   */
  uint32_t tid;
  /**
   * The processor on which the system call began.
   */
  uint32_t cpu;
};

/**
 * Payload of IOCB_ATTR_ROUTE's return. `ret` is 0 for every request, also for one whose system
 * call was not made.
 */
struct iocb_route {
  /**
   * IOCB_ROUTE_*; values may be added.
   */
  uint32_t route;
  /**
   * IOCB_ROUTE_F_*; bits may be added: ignore those you don't know.
   */
  uint32_t flags;
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Makes a context and stores its handle in `*ctx`, which must be NULL on entry.
 *
 * `version` is IO_SETUP2_VERSION. `params` may be NULL for the defaults; what was made is written
 * back to it. A context costs one descriptor (two with an eventfd), no thread, and little memory
 * until it is used.
 *
 * Returns 0, or
 * -EOPNOTSUPP: another version.
 * -EFAULT: `ctx` is NULL.
 * -EINVAL: `*ctx` is not NULL; unknown flags, or reserved fields that are not 0; `params->bytes`
 * less than 4; `ring_bytes` more than 1 GiB; `eventfd` is no eventfd.
 * -E2BIG: `params` is larger than the library knows, with something in the part that it does not
 * know.
 * -EBADF: `eventfd` is not open.
 * -EMFILE, -ENFILE, -ENOMEM: out of descriptors or memory.
 */
int io_setup2(uint32_t version, struct io_setup2_params *params, io_context2_t *ctx);

/**
 * Cancels what is queued, interrupts what can be, waits for the rest, wakes waiters with -EINVAL,
 * and unmaps the ring.
 *
 * Events that were not reaped are gone. A program that has unmapped or moved its view of the ring
 * keeps what it has there now.
 *
 * Returns 0, or
 * -EINVAL: not a live context.
 */
int io_destroy2(io_context2_t ctx);

/**
 * Submits the requests that lie one after another in `nbytes` bytes at `iocbs`; returns how many
 * bytes were accepted, always whole records. Never waits for I/O, neither for a device nor for a buffer that
 * is not in memory (of the caller's memory it reads the records alone), as long as there are threads to do
 * that: where none can be started, or none may run before the caller for its real-time policy, it carries
 * requests out itself, as far as they wait for nobody.
 *
 * A malformed record, or the limit of `max_requests` in flight, ends it there: what was before it
 * is accepted. What the system call itself would refuse (a bad descriptor, a bad pointer) comes
 * back in the event's `res`; so does -ENOSYS for a system call that is not carried, which is never
 * made.
 *
 * Returns bytes, or
 * -EINVAL: not a live context; `iocbs` is not aligned to 8; the first record is malformed.
 * -EFAULT: `iocbs` is NULL, and `nbytes` is not 0.
 * -EAGAIN: `max_requests` are in flight; no memory for the first request; the process is ending.
 */
ssize_t io_submit2(io_context2_t ctx, const struct iocb2 *iocbs, size_t nbytes);

/**
 * Copies whole events into `nbytes` bytes at `events`, oldest first, and returns their bytes.
 *
 * Waits until it has `min_bytes` (0: does not wait), until the next event does not fit, or until
 * `timeout` (relative; NULL: no limit) has passed, and returns what it has.
 *
 * Returns bytes, or, if nothing was copied,
 * -EINVAL: not a live context, or destroyed meanwhile; `min_bytes` > `nbytes`; `timeout` is not a
 * valid time.
 * -EFAULT: `events` is NULL, and `nbytes` is not 0.
 * -ENOBUFS: the first event has more than `nbytes` bytes. It stays.
 * -EINTR: a signal handler ran.
 * -EIO: the program has written nonsense to the ring. The events that were in it are lost, later
 * ones are not.
 */
ssize_t io_getevents2(io_context2_t ctx,
                      size_t min_bytes,
                      struct io_event2 *events,
                      size_t nbytes,
                      const struct timespec *timeout);

/**
 * io_getevents2() with `sigmask`, unless it is NULL, as the calling thread's signal mask while it
 * waits, as ppoll(2) does it.
 *
 * Returns as io_getevents2(), and -EMFILE, -ENFILE or -ENOMEM: with `sigmask`, it needs a
 * descriptor to wait.
 */
ssize_t io_pgetevents2(io_context2_t ctx,
                       size_t min_bytes,
                       struct io_event2 *events,
                       size_t nbytes,
                       const struct timespec *timeout,
                       const sigset_t *sigmask);

/**
 * Takes a queued request with that `data` out, the oldest of its kind; it completes with `res` =
 * -ECANCELED, through the ring like any other. If there is none, one that runs is interrupted, if
 * its system call may wait for somebody else (a pipe, a socket, a lock): its event says how it
 * ended, with what it had done by then, with -EINTR, or, not begun, with -ECANCELED.
 *
 * Returns 0, or
 * -EALREADY: it is running, and cannot be interrupted.
 * -ENOENT: there is none such.
 * -EINVAL: not a live context.
 */
int io_cancel2(io_context2_t ctx, uint64_t data);

/**
 * Carries out one request in the calling thread, and writes its event, attribute returns included,
 * to `nbytes` bytes at `event`; returns the event's bytes.
 *
 * Every attribute that makes sense there is handled; those about other requests (IOCB_ATTR_DRAIN,
 * IOCB_ATTR_LINK) are answered with -EOPNOTSUPP.
 *
 * Returns bytes, or
 * -EFAULT: `iocb` or `event` is NULL.
 * -EINVAL: `iocb` is not aligned to 8, or malformed.
 * -ENOBUFS: the event would have more than `nbytes` bytes. The system call was not made.
 * -ENOMEM: no memory for the attributes.
 */
ssize_t io_issue2(const struct iocb2 *iocb, struct io_event2 *event, size_t nbytes);

/**
 * A new descriptor (close-on-exec) for the ring's memory, for a monitor: its holder can map it for
 * reading only. The header is at offset 0, the data area `header_bytes` behind it.
 *
 * Returns the descriptor, or
 * -EINVAL: not a live context.
 * -EMFILE, -ENFILE, -ENOMEM: out of descriptors or memory.
 * -ENOENT: no /proc, and no IO_FEAT2_RING_SEALED either.
 * -EFBIG: when the context was made, RLIMIT_FSIZE did not allow a file of the ring's size: there is none.
 */
int io_ring_fd2(io_context2_t ctx);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

/* ---- Inline helpers ------------------------------------------------------------------------ */

#ifdef __cplusplus
extern "C" {
#endif

/* Fills a request without attributes. `data` is set to 0: set it afterwards. */
static inline void io_prep2_syscall(struct iocb2 *iocb, uint32_t nr, uint64_t a0, uint64_t a1,
                                    uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5)
{
    iocb->bytes = (uint32_t)sizeof(*iocb);
    iocb->nr = nr;
    iocb->data = 0;
    iocb->args[0] = a0;
    iocb->args[1] = a1;
    iocb->args[2] = a2;
    iocb->args[3] = a3;
    iocb->args[4] = a4;
    iocb->args[5] = a5;
}

static inline void io_prep2_nop(struct iocb2 *iocb)
{
    io_prep2_syscall(iocb, IOCB2_NOP, 0, 0, 0, 0, 0, 0);
}

/* pread(2): `count` and `offset` in bytes. */
static inline void io_prep2_pread(struct iocb2 *iocb, int fd, void *buf, size_t count, int64_t offset)
{
    io_prep2_syscall(iocb, SYS_pread64, (uint64_t)(int64_t)fd, (uint64_t)(uintptr_t)buf, count,
                     (uint64_t)offset, 0, 0);
}

/* pwrite(2): `count` and `offset` in bytes. */
static inline void io_prep2_pwrite(struct iocb2 *iocb, int fd, const void *buf, size_t count, int64_t offset)
{
    io_prep2_syscall(iocb, SYS_pwrite64, (uint64_t)(int64_t)fd, (uint64_t)(uintptr_t)buf, count,
                     (uint64_t)offset, 0, 0);
}

/* preadv2(2): `flags` are RWF_*; an `offset` of -1 reads at the file position, as for a pipe. */
static inline void io_prep2_preadv2(struct iocb2 *iocb, int fd, const struct iovec *iov, int iovcnt,
                                    int64_t offset, int flags)
{
    /* The kernel takes the offset as two longs, low word first; on a 64-bit one the first is all of it. */
    io_prep2_syscall(iocb, SYS_preadv2, (uint64_t)(int64_t)fd, (uint64_t)(uintptr_t)iov,
                     (uint64_t)(int64_t)iovcnt, (uint64_t)offset, 0, (uint64_t)(int64_t)flags);
}

/* pwritev2(2): `flags` are RWF_*; an `offset` of -1 writes at the file position. */
static inline void io_prep2_pwritev2(struct iocb2 *iocb, int fd, const struct iovec *iov, int iovcnt,
                                     int64_t offset, int flags)
{
    io_prep2_syscall(iocb, SYS_pwritev2, (uint64_t)(int64_t)fd, (uint64_t)(uintptr_t)iov,
                     (uint64_t)(int64_t)iovcnt, (uint64_t)offset, 0, (uint64_t)(int64_t)flags);
}

static inline void io_prep2_fsync(struct iocb2 *iocb, int fd)
{
    io_prep2_syscall(iocb, SYS_fsync, (uint64_t)(int64_t)fd, 0, 0, 0, 0, 0);
}

static inline void io_prep2_fdatasync(struct iocb2 *iocb, int fd)
{
    io_prep2_syscall(iocb, SYS_fdatasync, (uint64_t)(int64_t)fd, 0, 0, 0, 0, 0);
}

/*
 * Adds an attribute at the end of a request and returns it; the memory behind the request must
 * have room for it. `payload` has `payload_bytes` bytes (both may be 0) and is padded with zeros to a
 * multiple of 8. NULL if the attributes would exceed IOCB2_ATTR_BYTES_MAX: nothing is added.
 */
static inline struct iocb_attr *iocb2_add_attr(struct iocb2 *iocb, uint16_t id, uint32_t flags, uint64_t cookie,
                                               const void *payload, size_t payload_bytes)
{
    char *record = (char *)iocb;
    struct iocb_attr *attr;
    size_t bytes;

    if (payload_bytes > IOCB2_ATTR_BYTES_MAX)
        return NULL;
    bytes = (sizeof(*attr) + payload_bytes + 7) & ~(size_t)7;
    if (iocb->bytes + bytes > sizeof(*iocb) + IOCB2_ATTR_BYTES_MAX)
        return NULL;
    attr = (struct iocb_attr *)(void *)(record + iocb->bytes);
    memset(attr, 0, bytes);
    attr->bytes = (uint16_t)bytes;
    attr->id = id;
    attr->flags = flags;
    attr->cookie = cookie;
    if (payload_bytes != 0)
        memcpy(attr + 1, payload, payload_bytes);
    iocb->bytes += (uint32_t)bytes;
    return attr;
}

/* The place of the record behind this one. */
static inline struct iocb2 *iocb2_next(struct iocb2 *iocb)
{
    return (struct iocb2 *)(void *)((char *)iocb + iocb->bytes);
}

/* The event behind this one; the caller knows from the bytes it was given whether there is one. */
static inline struct io_event2 *io_event2_next(const struct io_event2 *event)
{
    return (struct io_event2 *)(void *)((char *)(uintptr_t)event + event->bytes);
}

/* The first return of attribute `id` in an event, or NULL; its payload follows it. */
static inline struct iocb_attr_ret *io_event2_attr(const struct io_event2 *event, uint16_t id)
{
    char *at = (char *)(uintptr_t)event + sizeof(*event);
    size_t left = event->bytes > sizeof(*event) ? event->bytes - sizeof(*event) : 0;

    while (left >= sizeof(struct iocb_attr_ret)) {
        struct iocb_attr_ret *ret = (struct iocb_attr_ret *)(void *)at;

        if (ret->bytes < sizeof(*ret) || ret->bytes > left)
            break;
        if (ret->id == id)
            return ret;
        at += ret->bytes;
        left -= ret->bytes;
    }
    return NULL;
}

/*
 * Takes the oldest event out of the ring without a call, and returns its bytes; 0 if the ring is
 * empty; -ENOBUFS if the event has more than `nbytes` bytes (it stays); -EIO if the ring is corrupt.
 * Any number of threads may do so at once, and beside io_getevents2().
 *
 * 0 does not mean that there is no event: if io_ring2_overflowed(), call io_getevents2().
 */
static inline ssize_t io_ring2_reap(io_context2_t ctx, struct io_event2 *event, size_t nbytes)
{
    char *data = (char *)ctx + ctx->header_bytes;
    uint32_t mask = ctx->ring_bytes - 1;

    for (;;) {
        /* Acquire, and before tail: a head that another reaper moved is never newer than our tail. */
        uint32_t head = __atomic_load_n(&ctx->head, __ATOMIC_ACQUIRE);
        /* Acquire: pairs with the library's release of tail, behind which the record is written. */
        uint32_t tail = __atomic_load_n(&ctx->tail, __ATOMIC_ACQUIRE);
        const char *record = data + (head & mask);
        uint32_t used = tail - head;
        uint32_t bytes = 0;
        int valid;

        if (used == 0)
            return 0;
        valid = used <= ctx->ring_bytes && (head & 7) == 0;
        if (valid) {
            bytes = __atomic_load_n((const uint32_t *)(const void *)record, __ATOMIC_RELAXED);
            valid = bytes >= sizeof(*event) && bytes <= used && (bytes & 7) == 0;
        }
        if (valid && bytes <= nbytes) {
            memcpy(event, record, bytes); /* contiguous also across the end: the area is mapped twice */
        } else {
            /* Acquire: if we saw a part of a later record, we see the head that made room for it. */
            __atomic_thread_fence(__ATOMIC_ACQUIRE);
            if (__atomic_load_n(&ctx->head, __ATOMIC_ACQUIRE) == head)
                return valid ? -ENOBUFS : -EIO;
            continue; /* another reaper took it while we looked */
        }
        /* Release: our copy is done before the library may write over the record. */
        if (__atomic_compare_exchange_n(&ctx->head, &head, head + bytes, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            return (ssize_t)bytes;
    }
}

/*
 * Looks at the oldest event where it is, in the ring, without copying it: *event points to it, attribute returns
 * included, until io_ring2_consume() gives its place back. Returns its bytes; 0, if the ring is empty (as with
 * io_ring2_reap(), io_ring2_overflowed() then says whether to call io_getevents2()); -EIO if the ring is corrupt.
 *
 * For a context with ONE consumer: from peek to consume no other thread may take events of this context, neither
 * with these two nor with io_ring2_reap(), io_getevents2() or io_pgetevents2(). Another could give the place back, and
 * the library write over what is being looked at.
 */
static inline ssize_t io_ring2_peek(io_context2_t ctx, const struct io_event2 **event)
{
    const char *data = (const char *)ctx + ctx->header_bytes;
    /* Relaxed: only the one consumer, who is the caller, moves it. */
    uint32_t head = __atomic_load_n(&ctx->head, __ATOMIC_RELAXED);
    /* Acquire: pairs with the library's release of tail, behind which the record is written. */
    uint32_t tail = __atomic_load_n(&ctx->tail, __ATOMIC_ACQUIRE);
    const struct io_event2 *oldest = (const struct io_event2 *)(const void *)(data + (head & (ctx->ring_bytes - 1)));
    uint32_t used = tail - head;

    if (used == 0)
        return 0;
    if (used > ctx->ring_bytes || (head & 7) != 0 || oldest->bytes < sizeof(*oldest) || oldest->bytes > used ||
        (oldest->bytes & 7) != 0)
        return -EIO;
    *event = oldest; /* contiguous also across the end: the area is mapped twice */
    return (ssize_t)oldest->bytes;
}

/* Gives the place of the oldest event back, which io_ring2_peek() has said to have that many bytes. */
static inline void io_ring2_consume(io_context2_t ctx, ssize_t bytes)
{
    uint32_t head = __atomic_load_n(&ctx->head, __ATOMIC_RELAXED);

    /* Release: we are done with the record before the library may write over it. */
    __atomic_store_n(&ctx->head, head + (uint32_t)bytes, __ATOMIC_RELEASE);
}

/*
 * Whether a reaper that found the ring empty has to call io_getevents2(): events wait on the
 * overflow list, or arrived in the ring in between.
 */
static inline int io_ring2_overflowed(io_context2_t ctx)
{
    /* Acquire: pairs with the library's release; once it reads as clear, the tail read next has all events. */
    return (__atomic_load_n(&ctx->flags, __ATOMIC_ACQUIRE) & IO_RING2_OVERFLOW) != 0;
}

#ifdef __cplusplus
}
#endif

#endif  /* AIO2_H */
