/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A program needs aio2.h alone: nothing is included before it, it may be included twice, and every
 * function and inline helper can be used. header_compile.sh compiles this file also in strict modes.
 */
/* with any engine the same */
#include "aio2.h"
#include "aio2.h"

static int use_inlines(void)
{
    union {
        struct iocb2 iocb;
        uint64_t room[64];
    } request;
    union {
        struct io_event2 event;
        uint64_t room[64];
    } completion;
    struct iovec iov;
    struct timespec zero;
    uint64_t payload = 1;
    const struct iocb_attr_ret *ret;

    zero.tv_sec = 0;
    zero.tv_nsec = 0;
    iov.iov_base = &payload;
    iov.iov_len = sizeof(payload);
    io_prep2_pread(&request.iocb, 0, &payload, sizeof(payload), 0);
    io_prep2_pwrite(&request.iocb, 0, &payload, sizeof(payload), 0);
    io_prep2_preadv2(&request.iocb, 0, &iov, 1, 0, 0);
    io_prep2_pwritev2(&request.iocb, 0, &iov, 1, 0, 0);
    io_prep2_fsync(&request.iocb, 0);
    io_prep2_fdatasync(&request.iocb, 0);
    io_prep2_syscall(&request.iocb, SYS_sync_file_range, 0, 0, 0, 0, 0, 0);
    io_prep2_nop(&request.iocb);
    if (iocb2_add_attr(&request.iocb, IOCB_ATTR_TIMING, IOCB_ATTR_F_REQUIRED, 5, NULL, 0) == NULL)
        return 1;
    if (iocb2_next(&request.iocb) != (struct iocb2 *)(void *)((char *)&request + 80))
        return 2;
    if (io_issue2(&request.iocb, &completion.event, sizeof(completion)) != 64)
        return 3;
    ret = io_event2_attr(&completion.event, IOCB_ATTR_TIMING);
    if (ret == NULL || ret->ret != 0 || ret->cookie != 5)
        return 4;
    if (io_event2_next(&completion.event) != (struct io_event2 *)(void *)((char *)&completion + 64))
        return 5;
    (void)zero;
    return 0;
}

int main(void)
{
    struct io_setup2_params params;
    struct timespec timeout;
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
    timeout.tv_sec = 20;
    timeout.tv_nsec = 0;
    if (io_setup2(IO_SETUP2_VERSION, &params, &ctx) != 0)
        return 10;
    if (io_ring2_reap(ctx, &event, sizeof(event)) != 0 || io_ring2_overflowed(ctx))
        return 11;
    if (io_ring2_peek(ctx, &oldest) != 0 || oldest != NULL)
        return 11;
    io_ring2_consume(ctx, 0);
    io_prep2_nop(&iocb);
    iocb.data = 6;
    if (io_submit2(ctx, &iocb, sizeof(iocb)) != (ssize_t)sizeof(iocb))
        return 12;
    if (io_getevents2(ctx, sizeof(event), &event, sizeof(event), &timeout) != (ssize_t)sizeof(event))
        return 13;
    if (event.data != 6 || event.res != 0 || event.flags != 0)
        return 14;
    timeout.tv_sec = 0;
    if (io_pgetevents2(ctx, 0, &event, sizeof(event), &timeout, &mask) != 0)
        return 15;
    if (io_cancel2(ctx, 6) != -ENOENT)
        return 16;
    if (io_ring_fd2(ctx) < 0)
        return 17;
    if (io_destroy2(ctx) != 0 || io_destroy2(ctx) != -EINVAL)
        return 18;
    return 0;
}
