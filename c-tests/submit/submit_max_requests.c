/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Up to max_requests in flight, io_submit2() accepts requests, and then returns -EAGAIN. A request whose event has been produced
 * is no longer in flight, whether the event was reaped or not.
 */
#include "test.h"

enum { LIMIT = 4 };

int main(void)
{
    io_context2_t ctx = setup2(4096, LIMIT, 1);
    struct hold holds[6];
    struct iocb2 iocbs[6];
    unsigned char events[1024];
    struct iocb2 nop;

    for (uint64_t i = 0; i < 6; i++) {
        hold_init(&holds[i], i);
        iocbs[i] = holds[i].iocb;
    }
    io_prep2_nop(&nop);

    CHECK_EQ(CALL(io_submit2(ctx, iocbs, sizeof(iocbs))), LIMIT * 64);
    CHECK_EQ(CALL(io_submit2(ctx, iocbs + LIMIT, 2 * 64)), -EAGAIN);
    CHECK_EQ(CALL(io_submit2(ctx, &nop, 64)), -EAGAIN);
    CHECK_EQ(CALL(io_submit2(ctx, &nop, 0)), 0);
    CHECK_EQ(ctx->submitted, LIMIT);
    CHECK_EQ(ctx->completed, 0);

    /* One completes: there is room for one, even before its event is reaped. */
    hold_release(&holds[0]);
    CHECK_SOON(__atomic_load_n(&ctx->completed, __ATOMIC_ACQUIRE) == 1);
    CHECK_EQ(CALL(io_submit2(ctx, iocbs + LIMIT, 2 * 64)), 64);
    CHECK_EQ(CALL(io_submit2(ctx, iocbs + LIMIT + 1, 64)), -EAGAIN);
    CHECK_EQ(ctx->submitted, LIMIT + 1);

    /* One is cancelled while it is queued: room again. */
    CHECK_EQ(CALL(io_cancel2(ctx, 3)), 0);
    CHECK_EQ(CALL(io_submit2(ctx, iocbs + LIMIT + 1, 64)), 64);
    CHECK_EQ(CALL(io_submit2(ctx, &nop, 64)), -EAGAIN);

    for (int i = 1; i < 6; i++)
        hold_release(&holds[i]);
    (void)get_events(ctx, 6, events, sizeof(events));
    expect_no_event(ctx, 50);

    /* Many events that nobody reaps, overflowed ones among them, are not in flight either. */
    for (int i = 0; i < 1000; i++) {
        const uint64_t completed = ctx->completed;

        submit_one(ctx, &nop);
        CHECK_SOON(__atomic_load_n(&ctx->completed, __ATOMIC_ACQUIRE) == completed + 1);
    }
    CHECK_CMP(ctx->overflowed, >, 0);
    CHECK_EQ(ctx->submitted, 1006);
    CHECK_EQ(ctx->completed, 1006);
    {
        static unsigned char many[1000 * 24];

        (void)get_events(ctx, 1000, many, sizeof(many));
    }
    for (int i = 0; i < 6; i++)
        hold_close(&holds[i]);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);

    /* A limit of one. */
    ctx = setup2(0, 1, 0);
    hold_submit(ctx, &holds[0], 7);
    CHECK_EQ(CALL(io_submit2(ctx, &nop, 64)), -EAGAIN);
    hold_release(&holds[0]);
    (void)get_events(ctx, 1, events, sizeof(events));
    CHECK_EQ(CALL(io_submit2(ctx, &nop, 64)), 64);
    (void)get_events(ctx, 1, events, sizeof(events));
    hold_close(&holds[0]);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
