/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The sizes, alignments and offsets of the ABI's structures, and the values of its constants. */
/* with any engine the same */
#include "test.h"

#define SIZE(type, size)                                          \
    _Static_assert(sizeof(type) == (size), #type ": size");       \
    _Static_assert(_Alignof(type) == 8, #type ": alignment")
#define FIELD(type, field, offset, field_type)                                                      \
    _Static_assert(offsetof(type, field) == (offset), #type "." #field ": offset");                 \
    _Static_assert(_Generic(((type *)0)->field, field_type: 1, default: 0), #type "." #field ": type")
#define ARRAY(type, field, offset, element, count)                                                  \
    _Static_assert(offsetof(type, field) == (offset), #type "." #field ": offset");                 \
    _Static_assert(sizeof(((type *)0)->field) == (count) * sizeof(element), #type "." #field ": size"); \
    _Static_assert(_Generic(((type *)0)->field[0], element: 1, default: 0), #type "." #field ": type")

SIZE(struct iocb2, 64);
FIELD(struct iocb2, bytes, 0, uint32_t);
FIELD(struct iocb2, nr, 4, uint32_t);
FIELD(struct iocb2, data, 8, uint64_t);
ARRAY(struct iocb2, args, 16, uint64_t, 6);

SIZE(struct iocb_attr, 16);
FIELD(struct iocb_attr, bytes, 0, uint16_t);
FIELD(struct iocb_attr, id, 2, uint16_t);
FIELD(struct iocb_attr, flags, 4, uint32_t);
FIELD(struct iocb_attr, cookie, 8, uint64_t);

SIZE(struct io_event2, 24);
FIELD(struct io_event2, bytes, 0, uint32_t);
FIELD(struct io_event2, flags, 4, uint32_t);
FIELD(struct io_event2, data, 8, uint64_t);
FIELD(struct io_event2, res, 16, int64_t);

SIZE(struct iocb_attr_ret, 16);
FIELD(struct iocb_attr_ret, bytes, 0, uint16_t);
FIELD(struct iocb_attr_ret, id, 2, uint16_t);
FIELD(struct iocb_attr_ret, ret, 4, int32_t);
FIELD(struct iocb_attr_ret, cookie, 8, uint64_t);

SIZE(struct iocb_timing, 24);
FIELD(struct iocb_timing, submit_ns, 0, uint64_t);
FIELD(struct iocb_timing, start_ns, 8, uint64_t);
FIELD(struct iocb_timing, end_ns, 16, uint64_t);

/* Payloads of attributes. */
SIZE(struct iocb_cache, 24);
FIELD(struct iocb_cache, hit, 0, uint32_t);
FIELD(struct iocb_cache, reserved, 4, uint32_t);
FIELD(struct iocb_cache, bytes_cached, 8, uint64_t);
FIELD(struct iocb_cache, bytes_asked, 16, uint64_t);

_Static_assert(sizeof(struct iocb_ioprio) == 8, "struct iocb_ioprio: size");
FIELD(struct iocb_ioprio, ioprio, 0, uint32_t);
FIELD(struct iocb_ioprio, reserved, 4, uint32_t);

SIZE(struct iocb_deadline, 8);
FIELD(struct iocb_deadline, ns, 0, uint64_t);

_Static_assert(sizeof(struct iocb_worker) == 8, "struct iocb_worker: size");
FIELD(struct iocb_worker, tid, 0, uint32_t);
FIELD(struct iocb_worker, cpu, 4, uint32_t);

_Static_assert(sizeof(struct iocb_route) == 8, "struct iocb_route: size");
FIELD(struct iocb_route, route, 0, uint32_t);
FIELD(struct iocb_route, flags, 4, uint32_t);

/* The ring's structure may grow within its header; what it has so far may not move. */
_Static_assert(_Alignof(struct io_ring2) == 8, "struct io_ring2: alignment");
_Static_assert(sizeof(struct io_ring2) >= 132, "struct io_ring2: size");
FIELD(struct io_ring2, magic, 0, uint32_t);
FIELD(struct io_ring2, version, 4, uint32_t);
FIELD(struct io_ring2, header_bytes, 8, uint32_t);
FIELD(struct io_ring2, ring_bytes, 12, uint32_t);
FIELD(struct io_ring2, features, 16, uint64_t);
FIELD(struct io_ring2, id, 24, uint64_t);
FIELD(struct io_ring2, tail, 64, uint32_t);
FIELD(struct io_ring2, flags, 68, uint32_t);
FIELD(struct io_ring2, submitted, 72, uint64_t);
FIELD(struct io_ring2, completed, 80, uint64_t);
FIELD(struct io_ring2, overflowed, 88, uint64_t);
FIELD(struct io_ring2, head, 128, uint32_t);

SIZE(struct io_setup2_params, 64);
FIELD(struct io_setup2_params, bytes, 0, uint32_t);
FIELD(struct io_setup2_params, flags, 4, uint32_t);
FIELD(struct io_setup2_params, ring_bytes, 8, uint32_t);
FIELD(struct io_setup2_params, max_requests, 12, uint32_t);
FIELD(struct io_setup2_params, workers, 16, uint32_t);
FIELD(struct io_setup2_params, eventfd, 20, int32_t);
FIELD(struct io_setup2_params, features, 24, uint64_t);
ARRAY(struct io_setup2_params, reserved, 32, uint64_t, 4);

_Static_assert(_Generic((io_context2_t)0, struct io_ring2 *: 1, default: 0), "io_context2_t");

_Static_assert(IO_SETUP2_VERSION == 2, "IO_SETUP2_VERSION");
_Static_assert(IO_RING2_VERSION == 2, "IO_RING2_VERSION");
_Static_assert(IO_RING2_MAGIC == 0xa10a10a2, "IO_RING2_MAGIC");
_Static_assert(IO_RING2_OVERFLOW == 1, "IO_RING2_OVERFLOW");
_Static_assert(IOCB2_NOP == 0xffffffff, "IOCB2_NOP");
_Static_assert(IOCB2_ATTR_BYTES_MAX == 4096, "IOCB2_ATTR_BYTES_MAX");
_Static_assert(IOCB_ATTR_F_REQUIRED == 1, "IOCB_ATTR_F_REQUIRED");
_Static_assert(IOCB_ATTR_TIMING == 1, "IOCB_ATTR_TIMING");
_Static_assert(IOCB_ATTR_CACHE == 2, "IOCB_ATTR_CACHE");
_Static_assert(IOCB_ATTR_IOPRIO == 3, "IOCB_ATTR_IOPRIO");
_Static_assert(IOCB_ATTR_DEADLINE == 4, "IOCB_ATTR_DEADLINE");
_Static_assert(IOCB_ATTR_DRAIN == 5, "IOCB_ATTR_DRAIN");
_Static_assert(IOCB_ATTR_LINK == 6, "IOCB_ATTR_LINK");
_Static_assert(IOCB_ATTR_WORKER == 7, "IOCB_ATTR_WORKER");
_Static_assert(IOCB_ATTR_ROUTE == 8, "IOCB_ATTR_ROUTE");
_Static_assert(IOCB_ROUTE_NOT_MADE == 0, "IOCB_ROUTE_NOT_MADE");
_Static_assert(IOCB_ROUTE_INLINE == 1, "IOCB_ROUTE_INLINE");
_Static_assert(IOCB_ROUTE_THREAD == 2, "IOCB_ROUTE_THREAD");
_Static_assert(IOCB_ROUTE_KERNEL_AIO == 3, "IOCB_ROUTE_KERNEL_AIO");
_Static_assert(IOCB_ROUTE_IO_URING == 4, "IOCB_ROUTE_IO_URING");
_Static_assert(IOCB_ROUTE_READINESS == 5, "IOCB_ROUTE_READINESS");
_Static_assert(IOCB_ROUTE_F_MERGED == 1, "IOCB_ROUTE_F_MERGED");
_Static_assert(IO_FEAT2_ATTR_TIMING == 1 << IOCB_ATTR_TIMING, "IO_FEAT2_ATTR_TIMING");
_Static_assert(IO_FEAT2_ATTR_CACHE == 1 << IOCB_ATTR_CACHE, "IO_FEAT2_ATTR_CACHE");
_Static_assert(IO_FEAT2_ATTR_IOPRIO == 1 << IOCB_ATTR_IOPRIO, "IO_FEAT2_ATTR_IOPRIO");
_Static_assert(IO_FEAT2_ATTR_DEADLINE == 1 << IOCB_ATTR_DEADLINE, "IO_FEAT2_ATTR_DEADLINE");
_Static_assert(IO_FEAT2_ATTR_DRAIN == 1 << IOCB_ATTR_DRAIN, "IO_FEAT2_ATTR_DRAIN");
_Static_assert(IO_FEAT2_ATTR_LINK == 1 << IOCB_ATTR_LINK, "IO_FEAT2_ATTR_LINK");
_Static_assert(IO_FEAT2_ATTR_WORKER == 1 << IOCB_ATTR_WORKER, "IO_FEAT2_ATTR_WORKER");
_Static_assert(IO_FEAT2_ATTR_ROUTE == 1 << IOCB_ATTR_ROUTE, "IO_FEAT2_ATTR_ROUTE");
_Static_assert(IOCB_ATTR_PRIVATE == 0x8000, "IOCB_ATTR_PRIVATE");

/* The prototypes: a pointer of the contract's type takes the function. */
static int (*const setup)(uint32_t, struct io_setup2_params *, io_context2_t *) = io_setup2;
static int (*const destroy)(io_context2_t) = io_destroy2;
static ssize_t (*const submit)(io_context2_t, const struct iocb2 *, size_t) = io_submit2;
static ssize_t (*const getevents)(io_context2_t, size_t, struct io_event2 *, size_t,
                                  const struct timespec *) = io_getevents2;
static ssize_t (*const pgetevents)(io_context2_t, size_t, struct io_event2 *, size_t, const struct timespec *,
                                   const sigset_t *) = io_pgetevents2;
static int (*const cancel)(io_context2_t, uint64_t) = io_cancel2;
static ssize_t (*const issue)(const struct iocb2 *, struct io_event2 *, size_t) = io_issue2;
static int (*const ring_fd)(io_context2_t) = io_ring_fd2;

int main(void)
{
    /* The work is done by the compiler; the symbols are there at run time. */
    CHECK(setup != NULL && destroy != NULL && submit != NULL && getevents != NULL);
    CHECK(pgetevents != NULL && cancel != NULL && issue != NULL && ring_fd != NULL);
    return 0;
}
