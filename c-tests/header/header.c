/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A program needs aio2.h alone: nothing is included before it, it may be included twice, and every
 * function and inline helper can be used. header_compile.sh compiles this file also in strict modes:
 * it is C89 and C++ at once, and has no cast.
 */
/* with any engine the same */
#include "aio2.h"
#include "aio2.h"

static int seen_events;

static void see(const struct io_event2 *event, void *arg)
{
    if (arg == &seen_events && event->bytes == sizeof(*event))
        seen_events++;
}

static void prepare(struct iocb2 *iocb)
{
    struct iovec iov;
    uint64_t word = 0;
    int64_t offset = 0;
    uint32_t bytes = 0;

    iov.iov_base = &word;
    iov.iov_len = sizeof(word);
    io_prep2_pread(iocb, 0, &word, sizeof(word), 0);
    io_prep2_pwrite(iocb, 0, &word, sizeof(word), 0);
    io_prep2_preadv2(iocb, 0, &iov, 1, 0, 0);
    io_prep2_pwritev2(iocb, 0, &iov, 1, 0, 0);
    io_prep2_fsync(iocb, 0);
    io_prep2_fdatasync(iocb, 0);
    io_prep2_read(iocb, 0, &word, sizeof(word));
    io_prep2_write(iocb, 0, &word, sizeof(word));
    io_prep2_openat(iocb, 0, "", 0, 0);
    io_prep2_close(iocb, 0);
    io_prep2_statx(iocb, 0, "", 0, 0, NULL);
    io_prep2_fallocate(iocb, 0, 0, 0, 0);
    io_prep2_ftruncate(iocb, 0, 0);
    io_prep2_sync_file_range(iocb, 0, 0, 0, 0);
    io_prep2_copy_file_range(iocb, 0, &offset, 0, &offset, 0, 0);
    io_prep2_splice(iocb, 0, &offset, 0, &offset, 0, 0);
    io_prep2_unlinkat(iocb, 0, "", 0);
    io_prep2_renameat2(iocb, 0, "", 0, "", 0);
    io_prep2_mkdirat(iocb, 0, "", 0);
    io_prep2_accept4(iocb, 0, NULL, &bytes, 0);
    io_prep2_connect(iocb, 0, NULL, 0);
    io_prep2_recv(iocb, 0, &word, sizeof(word), 0);
    io_prep2_send(iocb, 0, &word, sizeof(word), 0);
    io_prep2_recvmsg(iocb, 0, NULL, 0);
    io_prep2_sendmsg(iocb, 0, NULL, 0);
    io_prep2_poll(iocb, NULL, 0, NULL);
    io_prep2_clock_nanosleep(iocb, 0, 0, NULL, NULL);
    io_prep2_syscall(iocb, SYS_getcwd, io_arg2_pointer(&word), io_arg2_int(0), 0, 0, 0, 0);
    io_prep2_nop(iocb);
}

static int use_inlines(void)
{
    struct iocb2_room request;
    struct iocb2 batch[8];
    struct io_event2_room completion;
    struct io_event2_iter iter;
    const struct io_event2 *event;
    const struct iocb_attr_ret *ret;
    struct iocb_attr *attr;
    size_t bytes = 0;
    ssize_t got;
    int events = 0;

    prepare(&request.iocb);
    iocb2_set_pointer(&request.iocb, &request);
    if (iocb2_add_attr(&request.iocb, IOCB_ATTR_TIMING, IOCB_ATTR_F_REQUIRED, 5, NULL, 0) == NULL)
        return 1;
    if (iocb2_next(&request.iocb)->bytes == 0 && iocb2_next(&request.iocb) == &request.iocb)
        return 2;
    if (io_issue2(&request.iocb, &completion.event, sizeof(completion)) != 64)
        return 3;
    ret = io_event2_attr(&completion.event, IOCB_ATTR_TIMING);
    if (ret == NULL || ret->ret != 0 || ret->cookie != 5)
        return 4;
    if (io_event2_next(&completion.event) == &completion.event || io_event2_pointer(&completion.event) != &request)
        return 5;

    io_prep2_nop(&request.iocb);
    attr = iocb2_add_attr_within(&request.iocb, sizeof(request), IOCB_ATTR_PRIVATE, 0, NULL, 0);
    if (attr == NULL || iocb2_add_timing(&request, 0) == NULL || iocb2_add_cache(&request, 0) == NULL ||
        iocb2_add_ioprio(&request, 0, 0) == NULL || iocb2_add_deadline(&request, 0, UINT64_MAX) == NULL ||
        iocb2_add_drain(&request, 0) == NULL || iocb2_add_link(&request, 0) == NULL ||
        iocb2_add_worker(&request, 0) == NULL || iocb2_add_route(&request, 0) == NULL)
        return 6;
    if (iocb2_append(batch, sizeof(batch), &bytes, &request.iocb) != 0 || bytes != request.iocb.bytes)
        return 7;
    got = io_issue2(batch, &completion.event, sizeof(completion));
    iter = io_event2_iter_begin(&completion, got);
    while (io_event2_iter_next(&iter, &event))
        events += event->bytes <= IO_EVENT2_ROOM(IO_FEAT2_ATTR_TIMING | IO_FEAT2_ATTR_CACHE | IO_FEAT2_ATTR_IOPRIO |
                                                 IO_FEAT2_ATTR_DEADLINE | IO_FEAT2_ATTR_DRAIN | IO_FEAT2_ATTR_LINK |
                                                 IO_FEAT2_ATTR_WORKER | IO_FEAT2_ATTR_ROUTE) +
                                      sizeof(struct iocb_attr_ret);
#ifdef io_event2_for_each
    io_event2_for_each (event, &completion, got)
        events++;
    if (events != 2)
#else
    if (events != 1)
#endif
        return 8;
    event = &completion.event;
    if (io_event2_timing(event) == NULL || io_event2_cache(event) != NULL || io_event2_worker(event) == NULL ||
        io_event2_route(event) == NULL || io_event2_payload(event, IOCB_ATTR_TIMING, 8) == NULL)
        return 9;
    if (io_event2_handled(event, IOCB_ATTR_TIMING) != 0 || io_event2_handled(event, IOCB_ATTR_PRIVATE) != -EOPNOTSUPP ||
        io_event2_handled(event, 1000) != -ENOENT)
        return 10;
    return 0;
}

int main(void)
{
    struct io_setup2_params params;
    struct iocb2 iocb;
    struct io_event2 event;
    const struct io_event2 *oldest = NULL;
    io_context2_t ctx = NULL;
    sigset_t mask;
    int seen;

    seen = use_inlines();
    if (seen != 0)
        return seen;
    memset(&params, 0, sizeof(params));
    params.bytes = sizeof(params);
    params.eventfd = -1;
    memset(&mask, 0, sizeof(mask));
    if (io_setup2(IO_SETUP2_VERSION, &params, &ctx) != 0)
        return 20;
    if (io_ring2_reap(ctx, &event, sizeof(event)) != 0 || io_ring2_overflowed(ctx))
        return 21;
    if (io_ring2_peek(ctx, &oldest) != 0 || oldest != NULL)
        return 21;
    io_ring2_consume(ctx, 0);
    io_prep2_nop(&iocb);
    iocb.data = 6;
    if (io_submit2(ctx, &iocb, sizeof(iocb)) != 64)
        return 22;
    if (io_getevents2(ctx, sizeof(event), &event, sizeof(event), NULL) != 24)
        return 23;
    if (event.data != 6 || event.res != 0 || event.flags != 0)
        return 24;
    if (io_submit2(ctx, &iocb, sizeof(iocb)) != 64 || io_getevent2(ctx, &event, sizeof(event), NULL) != 24)
        return 25;
    if (io_pgetevents2(ctx, 0, &event, sizeof(event), NULL, &mask) != 0)
        return 26;
    if (io_ring2_reap_all(ctx, -1, see, &seen_events) != 0)
        return 27;
    if (io_cancel2(ctx, 6) != -ENOENT)
        return 28;
    if (io_ring_fd2(ctx) < 0)
        return 29;
    if (io_destroy2(ctx) != 0 || io_destroy2(ctx) != -EINVAL)
        return 30;
    return 0;
}
