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

#if !defined(__linux__) || !defined(__LP64__) || !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "libaio2 is for Linux on x86_64 and aarch64: programs of 64 bits, little-endian"
#endif

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
#include <unistd.h>

/* Strict C standards before C11 have no such type: a program that uses it includes what defines it. */
struct timespec;

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
 * get -ECANCELED. If the call accepts this request and not the next, nothing is linked. No payload.
 */
#define IOCB_ATTR_LINK 6

/**
 * Attribute: which thread and processor carried the request out. No payload in; struct
 * iocb_worker out. It does not change how the request is carried out: the thread may be one of the
 * library's, or one of the program's that submits or waits for events. If the kernel's AIO or io_uring
 * carried the request out, it is the thread that handed it over.
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
 * Feature: the descriptor that io_ring_fd2() gives can be mapped for reading only (the memory is
 * sealed against new writers; Linux 5.1 or later).
 */
#define IO_FEAT2_RING_SEALED 0x100000000ul

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
 * `iocb_route.route`: the request was handed over to io_uring.
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
 * The parameters of io_setup2(). It writes `ring_bytes` and `features`.
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
   * In: bytes of events the ring holds; 0 = 64 KiB; at most 1 GiB, else -EINVAL. Out: the size
   * that was made, a power of two, at least a page.
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
 * A program reads it, and writes `head` (through io_ring2_reap()) and nothing else. If it writes
 * elsewhere, it can lose its own events; nothing more happens.
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
   * IO_FEAT2_*: the features of this library and kernel.
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
   * Bytes ever reaped, free-running. Written by every reaper.
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
   * When its system call began; or, if the kernel's AIO or io_uring carried it out, when it was handed over.
   */
  uint64_t start_ns;
  /**
   * When its system call returned; or when it was taken back from the kernel's AIO or io_uring.
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
#endif /* __cplusplus */

/**
 * Makes a context and stores its handle in `*ctx`, which must be NULL on entry.
 *
 * `version` is IO_SETUP2_VERSION. `params` may be NULL for the defaults; `ring_bytes` and
 * `features` are written back to it. A context costs one descriptor (two with an eventfd), no
 * thread, and little memory until it is used.
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
 * Cancels queued requests, interrupts running ones if possible, waits for the rest, wakes waiters
 * with -EINVAL, and unmaps the ring.
 *
 * Events that were not reaped are gone. A program that has unmapped or moved its view of the ring
 * keeps its present mappings there.
 *
 * Returns 0, or
 * -EINVAL: not a live context.
 */
int io_destroy2(io_context2_t ctx);

/**
 * Submits the requests that lie one after another in `nbytes` bytes at `iocbs`; returns how many
 * bytes were accepted, always whole records. Never waits for I/O, neither for a device nor for a buffer that
 * is not in memory (of the caller's memory it reads the records alone), as long as there are threads to do
 * that. If no thread can be started, or none may run before the caller because of the caller's real-time
 * policy, it carries out itself the requests that wait for nobody else.
 *
 * A malformed record, or the limit of `max_requests` in flight, ends it there: the records before it
 * are accepted. An error of the system call itself (a bad descriptor, a bad pointer) comes back in
 * the event's `res`; so does -ENOSYS for a system call that is not carried, which is never made.
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
 * `timeout` (relative; NULL: no limit) has passed, and returns the events that it has.
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
 * Waits for one event, and copies it to `nbytes` bytes at `event`: the oldest, and no other, also if
 * more would fit.
 *
 * `timeout` is relative; NULL: no limit. struct io_event2_room has room for an event with all attributes that the
 * header knows, and IO_EVENT2_ROOM() says how much room an event with some of them needs. Any number of threads
 * may wait at once, and beside io_getevents2(); each event goes to one of them.
 *
 * Returns the event's bytes, or
 * 0: `timeout` has passed.
 * -ENOBUFS: the event has more than `nbytes` bytes. It stays; a call with more room gets it.
 * -EFAULT: `event` is NULL.
 * -EINVAL, -EINTR, -EIO: as io_getevents2().
 */
ssize_t io_getevent2(io_context2_t ctx,
                     struct io_event2 *event,
                     size_t nbytes,
                     const struct timespec *timeout);

/**
 * Takes the oldest queued request with that `data` out; it completes with `res` = -ECANCELED,
 * through the ring like any other. If none is queued, a running one is interrupted, if its system
 * call may wait for somebody else (a pipe, a socket, a lock). Then the event's `res` is the number
 * of bytes that were moved before, or -EINTR, or, if the call was not begun, -ECANCELED.
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
 * -EBADF: the program has closed the descriptor that the context keeps of its ring.
 */
int io_ring_fd2(io_context2_t ctx);

#ifdef __cplusplus
}
#endif  /* __cplusplus */

/*
 * ---- Inline helpers -----------------------------------------------------------------------------
 *
 * They have no state. Any number of threads may call them at once, on different requests, buffers and events; those that
 * take a context also on one context, if nothing else is said. They leave errno alone, and do not fail, if no error is named.
 *
 * For languages that cannot use them libaio2-ffi.so has all of them as functions, by the same names.
 */

/* How they are defined; the build of libaio2-ffi.so defines AIO2_INLINE otherwise. AIO2_INTERNAL: not for programs. */
#if defined(__cplusplus) || (defined(__STDC_VERSION__) && __STDC_VERSION__ >= 199901L)
#define AIO2_INTERNAL static inline
#else
#define AIO2_INTERNAL static __inline__
#endif
#ifndef AIO2_INLINE
#define AIO2_INLINE AIO2_INTERNAL
#endif

/* A number or a pointer from void * as another type; any pointer as another type or a number. */
#ifdef __cplusplus
#define AIO2_CAST(type, value) static_cast<type>(value)
#define AIO2_POINTER_CAST(type, value) reinterpret_cast<type>(value)
#else
#define AIO2_CAST(type, value) ((type)(value))
#define AIO2_POINTER_CAST(type, value) ((type)(value))
#endif

/*
 * With -Weverything clang warns in C++ of NULL (here), or else of nullptr (that C++98 had none), and newer versions of each
 * pointer that is counted on.
 */
#ifdef __clang__
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wzero-as-null-pointer-constant"
#if __has_warning("-Wunsafe-buffer-usage")
#pragma clang diagnostic ignored "-Wunsafe-buffer-usage"
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Of other headers, which a program that does not use them need not include. */
struct msghdr;
struct pollfd;
struct sockaddr;
struct statx;

/*
 * A request with room for attributes: for each that this header knows, or for others of 448 bytes in all. Submit it with
 * io_submit2(ctx, &request.iocb, request.iocb.bytes).
 */
struct iocb2_room {
    struct iocb2 iocb;
    uint64_t attrs[56];
};

/*
 * Room for an event of a request with each attribute that this header knows. An array of n of them has room for n events at least,
 * which lie in it one behind another (io_event2_for_each()), not one in each.
 */
struct io_event2_room {
    struct io_event2 event;
    uint64_t returns[61];
};

/* ---- Requests */

/* A pointer as an argument of io_prep2_syscall(). */
AIO2_INLINE uint64_t io_arg2_pointer(const void *pointer)
{
    return AIO2_POINTER_CAST(uintptr_t, pointer);
}

/* A number as an argument of io_prep2_syscall(): a descriptor, flags, an offset. A negative one keeps its sign. */
AIO2_INLINE uint64_t io_arg2_int(int64_t number)
{
    return AIO2_CAST(uint64_t, number);
}

/* Fills a request without attributes. `data` is set to 0: set it afterwards. */
AIO2_INLINE void io_prep2_syscall(struct iocb2 *iocb, uint32_t nr, uint64_t a0, uint64_t a1,
                                    uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5)
{
    iocb->bytes = AIO2_CAST(uint32_t, sizeof(*iocb));
    iocb->nr = nr;
    iocb->data = 0;
    iocb->args[0] = a0;
    iocb->args[1] = a1;
    iocb->args[2] = a2;
    iocb->args[3] = a3;
    iocb->args[4] = a4;
    iocb->args[5] = a5;
}

AIO2_INLINE void io_prep2_nop(struct iocb2 *iocb)
{
    io_prep2_syscall(iocb, IOCB2_NOP, 0, 0, 0, 0, 0, 0);
}

/* pread(2): `count` and `offset` in bytes. */
AIO2_INLINE void io_prep2_pread(struct iocb2 *iocb, int fd, void *buf, size_t count, int64_t offset)
{
    io_prep2_syscall(iocb, SYS_pread64, io_arg2_int(fd), io_arg2_pointer(buf), count,
                     io_arg2_int(offset), 0, 0);
}

/* pwrite(2): `count` and `offset` in bytes. */
AIO2_INLINE void io_prep2_pwrite(struct iocb2 *iocb, int fd, const void *buf, size_t count, int64_t offset)
{
    io_prep2_syscall(iocb, SYS_pwrite64, io_arg2_int(fd), io_arg2_pointer(buf), count,
                     io_arg2_int(offset), 0, 0);
}

/* preadv2(2): `flags` are RWF_*; an `offset` of -1 reads at the file position, as for a pipe. */
AIO2_INLINE void io_prep2_preadv2(struct iocb2 *iocb, int fd, const struct iovec *iov, int iovcnt,
                                    int64_t offset, int flags)
{
    /* The kernel takes the offset as two longs, low word first; on a 64-bit one the first is all of it. */
    io_prep2_syscall(iocb, SYS_preadv2, io_arg2_int(fd), io_arg2_pointer(iov),
                     io_arg2_int(iovcnt), io_arg2_int(offset), 0, io_arg2_int(flags));
}

/* pwritev2(2): `flags` are RWF_*; an `offset` of -1 writes at the file position. */
AIO2_INLINE void io_prep2_pwritev2(struct iocb2 *iocb, int fd, const struct iovec *iov, int iovcnt,
                                     int64_t offset, int flags)
{
    io_prep2_syscall(iocb, SYS_pwritev2, io_arg2_int(fd), io_arg2_pointer(iov),
                     io_arg2_int(iovcnt), io_arg2_int(offset), 0, io_arg2_int(flags));
}

AIO2_INLINE void io_prep2_fsync(struct iocb2 *iocb, int fd)
{
    io_prep2_syscall(iocb, SYS_fsync, io_arg2_int(fd), 0, 0, 0, 0, 0);
}

AIO2_INLINE void io_prep2_fdatasync(struct iocb2 *iocb, int fd)
{
    io_prep2_syscall(iocb, SYS_fdatasync, io_arg2_int(fd), 0, 0, 0, 0, 0);
}

/* read(2) at the file position, or of a pipe or socket: `count` in bytes. */
AIO2_INLINE void io_prep2_read(struct iocb2 *iocb, int fd, void *buf, size_t count)
{
    io_prep2_syscall(iocb, SYS_read, io_arg2_int(fd), io_arg2_pointer(buf), count, 0, 0, 0);
}

/* write(2) at the file position, or to a pipe or socket: `count` in bytes. */
AIO2_INLINE void io_prep2_write(struct iocb2 *iocb, int fd, const void *buf, size_t count)
{
    io_prep2_syscall(iocb, SYS_write, io_arg2_int(fd), io_arg2_pointer(buf), count, 0, 0, 0);
}

/* openat(2): `mode` counts only for a file that is made. The new descriptor is the event's `res`. */
AIO2_INLINE void io_prep2_openat(struct iocb2 *iocb, int dirfd, const char *path, int flags, mode_t mode)
{
    io_prep2_syscall(iocb, SYS_openat, io_arg2_int(dirfd), io_arg2_pointer(path), io_arg2_int(flags), mode, 0, 0);
}

/* close(2). No other request that was submitted and has not ended may use the descriptor. */
AIO2_INLINE void io_prep2_close(struct iocb2 *iocb, int fd)
{
    io_prep2_syscall(iocb, SYS_close, io_arg2_int(fd), 0, 0, 0, 0, 0);
}

/* statx(2): `flags` are AT_*, `mask` is STATX_*. */
AIO2_INLINE void io_prep2_statx(struct iocb2 *iocb, int dirfd, const char *path, int flags, unsigned int mask,
                                struct statx *statx)
{
    io_prep2_syscall(iocb, SYS_statx, io_arg2_int(dirfd), io_arg2_pointer(path), io_arg2_int(flags), mask,
                     io_arg2_pointer(statx), 0);
}

/* fallocate(2): `offset` and `bytes` in bytes. */
AIO2_INLINE void io_prep2_fallocate(struct iocb2 *iocb, int fd, int mode, int64_t offset, int64_t bytes)
{
    io_prep2_syscall(iocb, SYS_fallocate, io_arg2_int(fd), io_arg2_int(mode), io_arg2_int(offset), io_arg2_int(bytes), 0,
                     0);
}

/* ftruncate(2): `bytes` is the file's new size. */
AIO2_INLINE void io_prep2_ftruncate(struct iocb2 *iocb, int fd, int64_t bytes)
{
    io_prep2_syscall(iocb, SYS_ftruncate, io_arg2_int(fd), io_arg2_int(bytes), 0, 0, 0, 0);
}

/* sync_file_range(2): `offset` and `bytes` in bytes, `flags` are SYNC_FILE_RANGE_*. */
AIO2_INLINE void io_prep2_sync_file_range(struct iocb2 *iocb, int fd, int64_t offset, int64_t bytes, unsigned int flags)
{
    io_prep2_syscall(iocb, SYS_sync_file_range, io_arg2_int(fd), io_arg2_int(offset), io_arg2_int(bytes), flags, 0, 0);
}

/* copy_file_range(2): `count` in bytes; the offsets are read and written, or NULL for the file positions. */
AIO2_INLINE void io_prep2_copy_file_range(struct iocb2 *iocb, int fd_in, int64_t *offset_in, int fd_out, int64_t *offset_out,
                                          size_t count, unsigned int flags)
{
    io_prep2_syscall(iocb, SYS_copy_file_range, io_arg2_int(fd_in), io_arg2_pointer(offset_in), io_arg2_int(fd_out),
                     io_arg2_pointer(offset_out), count, flags);
}

/* splice(2): `count` in bytes; the offsets are read and written, NULL for a pipe or the file position. */
AIO2_INLINE void io_prep2_splice(struct iocb2 *iocb, int fd_in, int64_t *offset_in, int fd_out, int64_t *offset_out,
                                 size_t count, unsigned int flags)
{
    io_prep2_syscall(iocb, SYS_splice, io_arg2_int(fd_in), io_arg2_pointer(offset_in), io_arg2_int(fd_out),
                     io_arg2_pointer(offset_out), count, flags);
}

/* unlinkat(2): `flags` 0 or AT_REMOVEDIR. */
AIO2_INLINE void io_prep2_unlinkat(struct iocb2 *iocb, int dirfd, const char *path, int flags)
{
    io_prep2_syscall(iocb, SYS_unlinkat, io_arg2_int(dirfd), io_arg2_pointer(path), io_arg2_int(flags), 0, 0, 0);
}

/* renameat2(2): `flags` are RENAME_*. */
AIO2_INLINE void io_prep2_renameat2(struct iocb2 *iocb, int from_dirfd, const char *from, int to_dirfd, const char *to,
                                    unsigned int flags)
{
    io_prep2_syscall(iocb, SYS_renameat2, io_arg2_int(from_dirfd), io_arg2_pointer(from), io_arg2_int(to_dirfd),
                     io_arg2_pointer(to), flags, 0);
}

/* mkdirat(2). */
AIO2_INLINE void io_prep2_mkdirat(struct iocb2 *iocb, int dirfd, const char *path, mode_t mode)
{
    io_prep2_syscall(iocb, SYS_mkdirat, io_arg2_int(dirfd), io_arg2_pointer(path), mode, 0, 0, 0);
}

/* accept4(2): `addr` and `addr_bytes` (a socklen_t) may be NULL. The new descriptor is the event's `res`. */
AIO2_INLINE void io_prep2_accept4(struct iocb2 *iocb, int fd, struct sockaddr *addr, uint32_t *addr_bytes, int flags)
{
    io_prep2_syscall(iocb, SYS_accept4, io_arg2_int(fd), io_arg2_pointer(addr), io_arg2_pointer(addr_bytes),
                     io_arg2_int(flags), 0, 0);
}

/* connect(2). */
AIO2_INLINE void io_prep2_connect(struct iocb2 *iocb, int fd, const struct sockaddr *addr, uint32_t addr_bytes)
{
    io_prep2_syscall(iocb, SYS_connect, io_arg2_int(fd), io_arg2_pointer(addr), addr_bytes, 0, 0, 0);
}

/* recv(2): `count` in bytes, `flags` are MSG_*. */
AIO2_INLINE void io_prep2_recv(struct iocb2 *iocb, int fd, void *buf, size_t count, int flags)
{
    io_prep2_syscall(iocb, SYS_recvfrom, io_arg2_int(fd), io_arg2_pointer(buf), count, io_arg2_int(flags), 0, 0);
}

/* send(2): `count` in bytes, `flags` are MSG_*. */
AIO2_INLINE void io_prep2_send(struct iocb2 *iocb, int fd, const void *buf, size_t count, int flags)
{
    io_prep2_syscall(iocb, SYS_sendto, io_arg2_int(fd), io_arg2_pointer(buf), count, io_arg2_int(flags), 0, 0);
}

/* recvmsg(2): `flags` are MSG_*. */
AIO2_INLINE void io_prep2_recvmsg(struct iocb2 *iocb, int fd, struct msghdr *message, int flags)
{
    io_prep2_syscall(iocb, SYS_recvmsg, io_arg2_int(fd), io_arg2_pointer(message), io_arg2_int(flags), 0, 0, 0);
}

/* sendmsg(2): `flags` are MSG_*. */
AIO2_INLINE void io_prep2_sendmsg(struct iocb2 *iocb, int fd, const struct msghdr *message, int flags)
{
    io_prep2_syscall(iocb, SYS_sendmsg, io_arg2_int(fd), io_arg2_pointer(message), io_arg2_int(flags), 0, 0, 0);
}

/* poll(2) of `count` descriptors, by ppoll(2): `timeout` is NULL for no limit, and receives the rest of it. */
AIO2_INLINE void io_prep2_poll(struct iocb2 *iocb, struct pollfd *fds, unsigned int count, struct timespec *timeout)
{
    io_prep2_syscall(iocb, SYS_ppoll, io_arg2_pointer(fds), count, io_arg2_pointer(timeout), 0, 0, 0);
}

/* clock_nanosleep(2): `clock` is CLOCK_MONOTONIC or another, `flags` 0 or TIMER_ABSTIME; `left` may be NULL. */
AIO2_INLINE void io_prep2_clock_nanosleep(struct iocb2 *iocb, int clock, int flags, const struct timespec *time,
                                          struct timespec *left)
{
    io_prep2_syscall(iocb, SYS_clock_nanosleep, io_arg2_int(clock), io_arg2_int(flags), io_arg2_pointer(time),
                     io_arg2_pointer(left), 0, 0);
}

/* Sets `data` to a pointer, which io_event2_pointer() gives back. After io_prep2_*(), which set it to 0. */
AIO2_INLINE void iocb2_set_pointer(struct iocb2 *iocb, void *pointer)
{
    iocb->data = io_arg2_pointer(pointer);
}

/*
 * Adds an attribute at the end of a request that lies in `room` bytes, and returns it; its cookie is 0 until it is set there.
 * `flags` are 0 or IOCB_ATTR_F_REQUIRED. `payload` has `payload_bytes` bytes (both may be 0) and is padded with zeros to a
 * multiple of 8. NULL if the room is too small, or the attributes would exceed IOCB2_ATTR_BYTES_MAX: nothing is added.
 */
AIO2_INLINE struct iocb_attr *iocb2_add_attr_within(struct iocb2 *iocb, size_t room, uint16_t id, uint32_t flags,
                                                    const void *payload, size_t payload_bytes)
{
    char *end = AIO2_POINTER_CAST(char *, iocb) + iocb->bytes;
    struct iocb_attr *attr = AIO2_POINTER_CAST(struct iocb_attr *, AIO2_POINTER_CAST(uintptr_t, end));
    size_t bytes;

    if (payload_bytes > IOCB2_ATTR_BYTES_MAX)
        return NULL;
    bytes = (sizeof(*attr) + payload_bytes + 7) & ~AIO2_CAST(size_t, 7);
    if (iocb->bytes > room || bytes > room - iocb->bytes || iocb->bytes + bytes > sizeof(*iocb) + IOCB2_ATTR_BYTES_MAX)
        return NULL;
    memset(end, 0, bytes);
    attr->bytes = AIO2_CAST(uint16_t, bytes);
    attr->id = id;
    attr->flags = flags;
    if (payload_bytes != 0)
        memcpy(attr + 1, payload, payload_bytes);
    iocb->bytes += AIO2_CAST(uint32_t, bytes);
    return attr;
}

/* The bytes that a request has, if the compiler sees that: it does if the request is not from elsewhere. Else SIZE_MAX. */
#ifdef __GNUC__
#define AIO2_ROOM(iocb) __builtin_object_size(iocb, 0)
#else
#define AIO2_ROOM(iocb) SIZE_MAX
#endif

/* The compiler warns of a call that it does not remove, so it has to optimize. */
#if defined(__OPTIMIZE__) && defined(__has_attribute)
#if __has_attribute(__warning__)
static void __attribute__((__noinline__, __warning__("a plain struct iocb2 has no room for an attribute: use struct iocb2_room")))
aio2_warn_of_room(void)
{
    /* Or else the compiler would find that it has no effect, and remove each call. */
    __asm__ volatile("");
}
#define AIO2_WARN_OF_ROOM(room) \
    (__builtin_constant_p(room) && (room) == sizeof(struct iocb2) ? aio2_warn_of_room() : AIO2_CAST(void, 0))
#endif
#endif
#ifndef AIO2_WARN_OF_ROOM
#define AIO2_WARN_OF_ROOM(room) AIO2_CAST(void, 0)
#endif

AIO2_INTERNAL struct iocb_attr *aio2_add_attr(struct iocb2 *iocb, size_t room, uint16_t id, uint32_t flags, uint64_t cookie,
                                              const void *payload, size_t payload_bytes)
{
    struct iocb_attr *attr = iocb2_add_attr_within(iocb, room, id, flags, payload, payload_bytes);

    AIO2_WARN_OF_ROOM(room);
    if (attr != NULL)
        attr->cookie = cookie;
    return attr;
}

/*
 * The same, without `room`: the caller has made sure that there is enough behind the request. A plain struct iocb2 has none: where the
 * compiler sees that, nothing is added, and it warns if it optimizes. iocb2_add_attr_within(), and the functions below for each attribute,
 * check the room.
 */
AIO2_INLINE struct iocb_attr *iocb2_add_attr(struct iocb2 *iocb, uint16_t id, uint32_t flags, uint64_t cookie,
                                             const void *payload, size_t payload_bytes)
{
    return aio2_add_attr(iocb, AIO2_ROOM(iocb), id, flags, cookie, payload, payload_bytes);
}

/* Also a macro: without optimization, the compiler sees the request's bytes only where the program names it. */
#define iocb2_add_attr(iocb, id, flags, cookie, payload, payload_bytes) \
    aio2_add_attr((iocb), AIO2_ROOM(iocb), (id), (flags), (cookie), (payload), (payload_bytes))

/*
 * An attribute for a request with room, after io_prep2_*(). `flags` are 0 or IOCB_ATTR_F_REQUIRED. They return the attribute,
 * whose cookie is 0 until it is set there; NULL if the room is used up, which each of them once does not do.
 */

/* When it was submitted, began and ended: io_event2_timing(). */
AIO2_INLINE struct iocb_attr *iocb2_add_timing(struct iocb2_room *request, uint32_t flags)
{
    return iocb2_add_attr_within(&request->iocb, sizeof(*request), IOCB_ATTR_TIMING, flags, NULL, 0);
}

/* Whether a read found its bytes in the page cache: io_event2_cache(). */
AIO2_INLINE struct iocb_attr *iocb2_add_cache(struct iocb2_room *request, uint32_t flags)
{
    return iocb2_add_attr_within(&request->iocb, sizeof(*request), IOCB_ATTR_CACHE, flags, NULL, 0);
}

/* An I/O priority, as for ioprio_set(2): the class in bits 13 to 15, the level in the lower ones. */
AIO2_INLINE struct iocb_attr *iocb2_add_ioprio(struct iocb2_room *request, uint32_t flags, uint32_t ioprio)
{
    struct iocb_ioprio payload;

    payload.ioprio = ioprio;
    payload.reserved = 0;
    return iocb2_add_attr_within(&request->iocb, sizeof(*request), IOCB_ATTR_IOPRIO, flags, &payload, sizeof(payload));
}

/* The latest time to begin: CLOCK_MONOTONIC, in nanoseconds. */
AIO2_INLINE struct iocb_attr *iocb2_add_deadline(struct iocb2_room *request, uint32_t flags, uint64_t ns)
{
    struct iocb_deadline payload;

    payload.ns = ns;
    return iocb2_add_attr_within(&request->iocb, sizeof(*request), IOCB_ATTR_DEADLINE, flags, &payload, sizeof(payload));
}

/* After all that was submitted before it, and before all that comes later. */
AIO2_INLINE struct iocb_attr *iocb2_add_drain(struct iocb2_room *request, uint32_t flags)
{
    return iocb2_add_attr_within(&request->iocb, sizeof(*request), IOCB_ATTR_DRAIN, flags, NULL, 0);
}

/* The next request of the same io_submit2() only if this one succeeds in full: iocb2_append() puts them together. */
AIO2_INLINE struct iocb_attr *iocb2_add_link(struct iocb2_room *request, uint32_t flags)
{
    return iocb2_add_attr_within(&request->iocb, sizeof(*request), IOCB_ATTR_LINK, flags, NULL, 0);
}

/* Which thread and processor carried it out: io_event2_worker(). */
AIO2_INLINE struct iocb_attr *iocb2_add_worker(struct iocb2_room *request, uint32_t flags)
{
    return iocb2_add_attr_within(&request->iocb, sizeof(*request), IOCB_ATTR_WORKER, flags, NULL, 0);
}

/* Which way it was carried out: io_event2_route(). */
AIO2_INLINE struct iocb_attr *iocb2_add_route(struct iocb2_room *request, uint32_t flags)
{
    return iocb2_add_attr_within(&request->iocb, sizeof(*request), IOCB_ATTR_ROUTE, flags, NULL, 0);
}

/*
 * Copies a request to the end of others, to be submitted with one io_submit2(ctx, batch, *bytes): `batch` is aligned to 8 and has
 * `room` bytes, of which `*bytes` are in use, at first 0. Returns 0, and changes `*bytes`; or -ENOBUFS: the rest of the room
 * is too small, and nothing has changed.
 */
AIO2_INLINE int iocb2_append(struct iocb2 *batch, size_t room, size_t *bytes, const struct iocb2 *iocb)
{
    if (*bytes > room || iocb->bytes > room - *bytes)
        return -ENOBUFS;
    memcpy(AIO2_POINTER_CAST(char *, batch) + *bytes, iocb, iocb->bytes);
    *bytes += iocb->bytes;
    return 0;
}

/* The place of the record behind this one. */
AIO2_INLINE struct iocb2 *iocb2_next(struct iocb2 *iocb)
{
    return AIO2_POINTER_CAST(struct iocb2 *, AIO2_POINTER_CAST(uintptr_t, iocb) + iocb->bytes);
}

/* ---- Events */

/*
 * The most bytes that an event has whose request has these attributes: IO_FEAT2_ATTR_* of each, combined by `|`; 0 for none. `attrs` is
 * evaluated more than once; for a constant it is a constant.
 */
#define IO_EVENT2_ROOM(attrs)                                                                   \
    (sizeof(struct io_event2) + AIO2_RETURN_ROOM(attrs, IO_FEAT2_ATTR_TIMING, sizeof(struct iocb_timing)) + \
     AIO2_RETURN_ROOM(attrs, IO_FEAT2_ATTR_CACHE, sizeof(struct iocb_cache)) +                  \
     AIO2_RETURN_ROOM(attrs, IO_FEAT2_ATTR_IOPRIO, 0u) +                                        \
     AIO2_RETURN_ROOM(attrs, IO_FEAT2_ATTR_DEADLINE, 0u) +                                      \
     AIO2_RETURN_ROOM(attrs, IO_FEAT2_ATTR_DRAIN, 0u) +                                         \
     AIO2_RETURN_ROOM(attrs, IO_FEAT2_ATTR_LINK, 0u) +                                          \
     AIO2_RETURN_ROOM(attrs, IO_FEAT2_ATTR_WORKER, sizeof(struct iocb_worker)) +                \
     AIO2_RETURN_ROOM(attrs, IO_FEAT2_ATTR_ROUTE, sizeof(struct iocb_route)))
#define AIO2_RETURN_ROOM(attrs, attr, payload_bytes) \
    (((attrs) & (attr)) != 0u ? sizeof(struct iocb_attr_ret) + (payload_bytes) : 0u)

/* The event behind this one; the caller knows from the bytes it was given whether there is one. */
AIO2_INLINE struct io_event2 *io_event2_next(const struct io_event2 *event)
{
    return AIO2_POINTER_CAST(struct io_event2 *, AIO2_POINTER_CAST(uintptr_t, event) + event->bytes);
}

/* Events that lie one behind another, and have not been looked at. */
struct io_event2_iter {
    const struct io_event2 *next;
    size_t bytes;
};

/* Those in the `bytes` bytes at `buf`, as io_getevents2() has returned them; none if it has returned 0 or an error. */
AIO2_INLINE struct io_event2_iter io_event2_iter_begin(const void *buf, ssize_t bytes)
{
    struct io_event2_iter iter;

    iter.next = AIO2_CAST(const struct io_event2 *, buf);
    iter.bytes = bytes > 0 ? AIO2_CAST(size_t, bytes) : 0;
    return iter;
}

/* Gives the next one and returns 1; or returns 0: there is none, or it is not whole. */
AIO2_INLINE int io_event2_iter_next(struct io_event2_iter *iter, const struct io_event2 **event)
{
    const struct io_event2 *next = iter->next;

    if (iter->bytes < sizeof(*next) || next->bytes < sizeof(*next) || next->bytes > iter->bytes)
        return 0;
    *event = next;
    iter->bytes -= next->bytes;
    iter->next = io_event2_next(next);
    return 1;
}

#if defined(__cplusplus) || (defined(__STDC_VERSION__) && __STDC_VERSION__ >= 199901L)
/*
 * for (each event in the `bytes` bytes at `buf`, as io_getevents2() has returned them): `event` is a variable of the type
 * `const struct io_event2 *`, and points to each in turn. If `bytes` is 0 or an error there are none. `buf` and `bytes` are evaluated
 * once. (C89 has no such loop: there io_event2_iter_begin() and io_event2_iter_next() do the same.)
 */
#define io_event2_for_each(event, buf, bytes)                                                     \
    for (struct io_event2_iter AIO2_ITER(__LINE__) = io_event2_iter_begin((buf), (bytes));        \
         io_event2_iter_next(&AIO2_ITER(__LINE__), &(event));)
#define AIO2_ITER(line) AIO2_ITER_OF(line)
#define AIO2_ITER_OF(line) aio2_iter_##line
#endif

/* `data` as the pointer that iocb2_set_pointer() was given. */
AIO2_INLINE void *io_event2_pointer(const struct io_event2 *event)
{
    return AIO2_POINTER_CAST(void *, event->data);
}

/* The first return of attribute `id` in an event, or NULL; its payload follows it. */
AIO2_INLINE struct iocb_attr_ret *io_event2_attr(const struct io_event2 *event, uint16_t id)
{
    uintptr_t at = AIO2_POINTER_CAST(uintptr_t, event + 1);
    size_t left = event->bytes > sizeof(*event) ? event->bytes - sizeof(*event) : 0;

    while (left >= sizeof(struct iocb_attr_ret)) {
        struct iocb_attr_ret *ret = AIO2_POINTER_CAST(struct iocb_attr_ret *, at);

        if (ret->bytes < sizeof(*ret) || ret->bytes > left)
            break;
        if (ret->id == id)
            return ret;
        at += ret->bytes;
        left -= ret->bytes;
    }
    return NULL;
}

/* How attribute `id` was handled: 0, or the -errno of its return; -ENOENT if the request did not have it. */
AIO2_INLINE int io_event2_handled(const struct io_event2 *event, uint16_t id)
{
    const struct iocb_attr_ret *ret = io_event2_attr(event, id);

    return ret != NULL ? ret->ret : -ENOENT;
}

/* The payload of attribute `id`, of `bytes` bytes at least; NULL if there is none, or the attribute was not handled. */
AIO2_INLINE const void *io_event2_payload(const struct io_event2 *event, uint16_t id, size_t bytes)
{
    const struct iocb_attr_ret *ret = io_event2_attr(event, id);

    return ret != NULL && ret->ret == 0 && ret->bytes - sizeof(*ret) >= bytes ? ret + 1 : NULL;
}

/*
 * The answer of an attribute, where it lies in the event; NULL if the request did not have the attribute, or it was not
 * handled: io_event2_handled() says why.
 */
AIO2_INLINE const struct iocb_timing *io_event2_timing(const struct io_event2 *event)
{
    return AIO2_CAST(const struct iocb_timing *, io_event2_payload(event, IOCB_ATTR_TIMING, sizeof(struct iocb_timing)));
}

AIO2_INLINE const struct iocb_cache *io_event2_cache(const struct io_event2 *event)
{
    return AIO2_CAST(const struct iocb_cache *, io_event2_payload(event, IOCB_ATTR_CACHE, sizeof(struct iocb_cache)));
}

AIO2_INLINE const struct iocb_worker *io_event2_worker(const struct io_event2 *event)
{
    return AIO2_CAST(const struct iocb_worker *, io_event2_payload(event, IOCB_ATTR_WORKER, sizeof(struct iocb_worker)));
}

AIO2_INLINE const struct iocb_route *io_event2_route(const struct io_event2 *event)
{
    return AIO2_CAST(const struct iocb_route *, io_event2_payload(event, IOCB_ATTR_ROUTE, sizeof(struct iocb_route)));
}

/* ---- The ring */

/*
 * Takes the oldest event out of the ring without a call, and returns its bytes; 0 if the ring is
 * empty; -ENOBUFS if the event has more than `nbytes` bytes (it stays); -EIO if the ring is corrupt.
 * Any number of threads may do so at once, and beside io_getevents2().
 *
 * 0 does not mean that there is no event: if io_ring2_overflowed(), call io_getevents2().
 */
AIO2_INLINE ssize_t io_ring2_reap(io_context2_t ctx, struct io_event2 *event, size_t nbytes)
{
    const char *data = AIO2_POINTER_CAST(const char *, ctx) + ctx->header_bytes;
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
            bytes = __atomic_load_n(AIO2_POINTER_CAST(const uint32_t *, AIO2_POINTER_CAST(uintptr_t, record)), __ATOMIC_RELAXED);
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
            return AIO2_CAST(ssize_t, bytes);
    }
}

/*
 * Looks at the oldest event where it is, in the ring, without copying it: *event points to it, attribute returns
 * included, until io_ring2_consume() gives its place back. Returns its bytes; 0, if the ring is empty (as with
 * io_ring2_reap(), io_ring2_overflowed() then says whether to call io_getevents2()); -EIO if the ring is corrupt.
 *
 * For a context with ONE consumer: from peek to consume no other thread may take events of this context, neither
 * with these two nor with io_ring2_reap(), io_getevents2() or io_pgetevents2(). Another could give the place back, and
 * the library overwrite the event that is being looked at.
 */
AIO2_INLINE ssize_t io_ring2_peek(io_context2_t ctx, const struct io_event2 **event)
{
    uintptr_t data = AIO2_POINTER_CAST(uintptr_t, ctx) + ctx->header_bytes;
    /* Relaxed: only the one consumer, which is the caller, moves it. */
    uint32_t head = __atomic_load_n(&ctx->head, __ATOMIC_RELAXED);
    /* Acquire: pairs with the library's release of tail, behind which the record is written. */
    uint32_t tail = __atomic_load_n(&ctx->tail, __ATOMIC_ACQUIRE);
    const struct io_event2 *oldest = AIO2_POINTER_CAST(const struct io_event2 *, data + (head & (ctx->ring_bytes - 1)));
    uint32_t used = tail - head;

    if (used == 0)
        return 0;
    if (used > ctx->ring_bytes || (head & 7) != 0 || oldest->bytes < sizeof(*oldest) || oldest->bytes > used ||
        (oldest->bytes & 7) != 0)
        return -EIO;
    *event = oldest; /* contiguous also across the end: the area is mapped twice */
    return AIO2_CAST(ssize_t, oldest->bytes);
}

/* Gives the place of the oldest event back, which io_ring2_peek() has said to have that many bytes. */
AIO2_INLINE void io_ring2_consume(io_context2_t ctx, ssize_t bytes)
{
    uint32_t head = __atomic_load_n(&ctx->head, __ATOMIC_RELAXED);

    /* Release: we are done with the record before the library may write over it. */
    __atomic_store_n(&ctx->head, head + AIO2_CAST(uint32_t, bytes), __ATOMIC_RELEASE);
}

/*
 * Whether a reaper that found the ring empty has to call io_getevents2(): events wait on the
 * overflow list, or arrived in the ring in between.
 */
AIO2_INLINE int io_ring2_overflowed(io_context2_t ctx)
{
    /* Acquire: pairs with the library's release; once it reads as clear, the tail read next has all events. */
    return (__atomic_load_n(&ctx->flags, __ATOMIC_ACQUIRE) & IO_RING2_OVERFLOW) != 0;
}

/*
 * For a context whose eventfd is readable: reads the eventfd, unless `eventfd` is -1, and calls each(event, arg) for every event
 * there is, oldest first, those of the overflow list included, until there is none. So an event that comes later makes the eventfd
 * readable again. `event` is valid until `each` returns. `each` may submit requests; it must not take events of this
 * context, or destroy it.
 *
 * The eventfd should be one that does not block (EFD_NONBLOCK): of one that does, the read waits if it is not readable, or
 * another thread was quicker.
 *
 * Returns how many events there were; or an error of io_getevents2(), or the negative errno of the eventfd's read, also if `each`
 * has been called before.
 */
AIO2_INLINE ssize_t io_ring2_reap_all(io_context2_t ctx, int eventfd, void (*each)(const struct io_event2 *event, void *arg),
                                      void *arg)
{
    struct io_event2_room room[16]; /* more than any event has */
    struct io_event2_iter iter;
    const struct io_event2 *event = NULL;
    uint64_t added;
    ssize_t events = 0;
    ssize_t bytes;

    if (eventfd != -1) {
        int saved = errno;
        int failed;

        do
            failed = read(eventfd, &added, sizeof(added)) < 0 ? errno : 0;
        while (failed == EINTR);
        errno = saved;
        if (failed != 0 && failed != EAGAIN)
            return -failed;
    }
    while ((bytes = io_getevents2(ctx, 0, &room[0].event, sizeof(room), NULL)) > 0) {
        iter = io_event2_iter_begin(room, bytes);
        while (io_event2_iter_next(&iter, &event)) {
            each(event, arg);
            events++;
        }
    }
    return bytes < 0 ? bytes : events;
}

#ifdef __cplusplus
}
#endif

#ifdef __clang__
#pragma clang diagnostic pop
#endif

#endif  /* AIO2_H */
