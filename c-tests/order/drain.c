/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * IOCB_ATTR_DRAIN: the request begins after everything that was submitted before it on its context has completed, and nothing
 * that was submitted later begins before it has completed. Other contexts continue. A cancelled drain delays no request.
 */
#include "test.h"

static uint64_t starts[64], ends[64];
static int64_t results[64];
static int order[64];

/* A no-op, or a drain, that tells when it ran. */
static void add(io_context2_t ctx, uint64_t data, bool drain)
{
    union iocb_room room;

    io_prep2_nop(&room.iocb);
    room.iocb.data = data;
    CHECK(iocb2_add_attr(&room.iocb, IOCB_ATTR_TIMING, 0, 0, NULL, 0) != NULL);
    if (drain)
        CHECK(iocb2_add_attr(&room.iocb, IOCB_ATTR_DRAIN, IOCB_ATTR_F_REQUIRED, 0, NULL, 0) != NULL);
    submit_one(ctx, &room.iocb);
}

static int seen;

/* The next `n` events, and no more. */
static void reap(io_context2_t ctx, int n)
{
    for (int got = 0; got < n;) {
        static _Alignas(8) unsigned char room[64 * 96];
        const struct timespec limit = { PATIENCE_S, 0 };
        ssize_t bytes = CALL(io_getevents2(ctx, 1, (struct io_event2 *)(void *)room, sizeof(room), &limit));

        CHECK_CMP(bytes, >, 0);
        for (ssize_t at = 0; at < bytes; got++) {
            struct io_event2 *event = (struct io_event2 *)(void *)(room + at);
            const struct iocb_attr_ret *ret = io_event2_attr(event, IOCB_ATTR_TIMING);
            struct iocb_timing timing;

            CHECK_CMP(got, <, n);
            CHECK_CMP(event->data, <, 64);
            results[event->data] = event->res;
            order[seen++] = (int)event->data;
            if (ret != NULL) {
                memcpy(&timing, ret + 1, sizeof(timing));
                starts[event->data] = timing.start_ns;
                ends[event->data] = timing.end_ns;
            }
            ret = io_event2_attr(event, IOCB_ATTR_DRAIN);
            if (ret != NULL)
                CHECK_EQ(ret->ret, 0);
            at += event->bytes;
        }
    }
}

int main(void)
{
    io_context2_t ctx = setup2(0, 0, 0);
    io_context2_t other = setup2(0, 0, 0);
    struct hold first, second;

    /* Alone, first, and several in a row. */
    add(ctx, 0, true);
    add(ctx, 1, true);
    add(ctx, 2, false);
    add(ctx, 3, true);
    reap(ctx, 4);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(order[i], i);
        CHECK_EQ(results[i], 0);
        if (i > 0)
            CHECK_CMP(starts[i], >=, ends[i - 1]);
    }

    /* Two reads of pipes, a no-op, a drain, two no-ops, a second drain, a last no-op. */
    seen = 0;
    hold_submit(ctx, &first, 10);
    hold_submit(ctx, &second, 11);
    add(ctx, 12, false);
    add(ctx, 13, true);
    add(ctx, 14, false);
    add(ctx, 15, false);
    add(ctx, 16, true);
    add(ctx, 17, false);
    hold_wait_running(2);
    reap(ctx, 1);
    CHECK_EQ(order[0], 12);
    expect_no_event(ctx, 50);
    /* The other context is not concerned. */
    add(other, 20, false);
    add(other, 21, true);
    reap(other, 2);
    seen = 0;
    hold_release(&first);
    reap(ctx, 1);
    CHECK_EQ(order[0], 10);
    expect_no_event(ctx, 50);
    hold_release(&second);
    reap(ctx, 6);
    CHECK_EQ(order[1], 11);
    CHECK_EQ(order[2], 13);
    CHECK_EQ(order[5], 16);
    CHECK_EQ(order[6], 17);
    CHECK_CMP(starts[14], >=, ends[13]);
    CHECK_CMP(starts[15], >=, ends[13]);
    CHECK_CMP(starts[16], >=, ends[14]);
    CHECK_CMP(starts[16], >=, ends[15]);
    CHECK_CMP(starts[17], >=, ends[16]);
    hold_close(&first);
    hold_close(&second);

    /* A held request can be cancelled: behind a drain, and the drain; then the requests behind it begin, though the first still runs. */
    seen = 0;
    hold_submit(ctx, &first, 30);
    hold_wait_running(1);
    add(ctx, 31, true);
    add(ctx, 32, false);
    add(ctx, 33, false);
    add(ctx, 34, true);
    add(ctx, 35, false);
    expect_no_event(ctx, 20);
    CHECK_EQ(CALL(io_cancel2(ctx, 33)), 0);
    reap(ctx, 1);
    CHECK_EQ(results[33], -ECANCELED);
    expect_no_event(ctx, 20);
    CHECK_EQ(CALL(io_cancel2(ctx, 31)), 0);
    reap(ctx, 2);
    CHECK_EQ(results[31], -ECANCELED);
    CHECK_EQ(results[32], 0);
    expect_no_event(ctx, 20);
    CHECK_EQ(CALL(io_cancel2(ctx, 34)), 0);
    reap(ctx, 2);
    CHECK_EQ(results[34], -ECANCELED);
    CHECK_EQ(results[35], 0);
    add(ctx, 36, false);
    reap(ctx, 1);
    hold_release(&first);
    reap(ctx, 1);
    CHECK_EQ(results[30], 1);
    hold_close(&first);
    CHECK_EQ(ctx->submitted, ctx->completed);

    /* The end of a context with requests held. */
    hold_submit(ctx, &first, 40);
    hold_wait_running(1);
    add(ctx, 41, true);
    add(ctx, 42, false);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    hold_close(&first);
    CHECK_EQ(CALL(io_destroy2(other)), 0);
    return 0;
}
