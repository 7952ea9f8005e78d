/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * io_cancel2(). A queued request: it completes with -ECANCELED and is not carried out, and the result is 0. A running request
 * that cannot be interrupted: -EALREADY, and it continues. No such request: -ENOENT. One request a call; requests of other
 * contexts are not found.
 */
#include "test.h"

int main(void)
{
    io_context2_t ctx = setup2(0, 0, 1);
    io_context2_t other = setup2(0, 0, 1);
    union iocb_room request;
    union event_room room;
    struct timespec zero = { 0, 0 };
    struct hold hold;
    struct hold other_hold;
    struct hard_hold hard;
    struct iocb2 iocb;
    char byte = 'x';
    char seen = 0;
    int fd = temp_file(16, 0);

    CHECK_EQ(CALL(io_cancel2(ctx, 0)), -ENOENT);

    hold_submit(ctx, &hold, 1);
    hold_wait_running(1);
    CHECK_EQ(CALL(io_cancel2(ctx, 2)), -ENOENT);
    expect_no_event(ctx, 50);

    /* A queued write, cancelled: the event comes although the worker is still busy. */
    io_prep2_pwrite(&iocb, fd, &byte, 1, 0);
    iocb.data = 2;
    submit_one(ctx, &iocb);
    CHECK_EQ(CALL(io_cancel2(other, 2)), -ENOENT);
    CHECK_EQ(CALL(io_cancel2(ctx, 2)), 0);
    CHECK_EQ(CALL(io_cancel2(ctx, 2)), -ENOENT);
    CHECK_EQ(ctx->completed, 1);
    CHECK_EQ(CALL(io_getevents2(ctx, 24, &room.event, sizeof(room), &zero)), 24);
    CHECK_EQ(room.event.data, 2);
    CHECK_EQ(room.event.res, -ECANCELED);
    CHECK_EQ(room.event.flags, 0);

    /* Several with the same data: one for each call. */
    for (int i = 0; i < 3; i++) {
        io_prep2_pwrite(&iocb, fd, &byte, 1, 1 + i);
        iocb.data = 3;
        submit_one(ctx, &iocb);
    }
    CHECK_EQ(CALL(io_cancel2(ctx, 3)), 0);
    CHECK_EQ(CALL(io_cancel2(ctx, 3)), 0);
    CHECK_EQ(CALL(io_getevents2(ctx, 48, &room.event, sizeof(room), &zero)), 48);
    CHECK_EQ(room.event.res, -ECANCELED);
    CHECK_EQ(room.event.data, 3);
    CHECK_EQ(io_event2_next(&room.event)->res, -ECANCELED);
    CHECK_EQ(io_event2_next(&room.event)->data, 3);
    /* One is left; with the same data as the running one, the queued one is what is cancelled. */
    io_prep2_pwrite(&iocb, fd, &byte, 1, 5);
    iocb.data = 1;
    submit_one(ctx, &iocb);
    CHECK_EQ(CALL(io_cancel2(ctx, 1)), 0);
    CHECK_EQ(CALL(io_getevents2(ctx, 24, &room.event, sizeof(room), &zero)), 24);
    CHECK_EQ(room.event.res, -ECANCELED);
    CHECK_EQ(room.event.data, 1);

    /* Attributes of a cancelled request have their returns. */
    io_prep2_pwrite(&request.iocb, fd, &byte, 1, 6);
    request.iocb.data = UINT64_MAX;
    CHECK(iocb2_add_attr(&request.iocb, 0x8000, 0, 11, NULL, 0) != NULL);
    CHECK(iocb2_add_attr(&request.iocb, IOCB_ATTR_TIMING, 0, 12, NULL, 0) != NULL);
    int64_t before = now_ns();
    submit_one(ctx, &request.iocb);
    int64_t submitted = now_ns();
    sleep_ms(20);
    int64_t cancelling = now_ns();
    CHECK_EQ(CALL(io_cancel2(ctx, UINT64_MAX)), 0);
    int64_t cancelled = now_ns();
    CHECK_EQ(CALL(io_getevents2(ctx, 24, &room.event, sizeof(room), &zero)), 24 + 16 + 40);
    CHECK_EQ(room.event.res, -ECANCELED);
    CHECK_EQ(room.event.data, UINT64_MAX);
    const struct iocb_attr_ret *ret = io_event2_attr(&room.event, IOCB_ATTR_TIMING);
    struct iocb_timing timing;

    CHECK(ret != NULL);
    CHECK_EQ(ret->ret, 0);
    CHECK_EQ(ret->cookie, 12);
    memcpy(&timing, ret + 1, sizeof(timing));
    CHECK_CMP(timing.submit_ns, >=, before);
    CHECK_CMP(timing.submit_ns, <=, submitted);
    CHECK_CMP(timing.start_ns, >=, cancelling);
    CHECK_CMP(timing.start_ns, <=, cancelled);
    CHECK_EQ(timing.start_ns, timing.end_ns);
    CHECK_EQ(io_event2_attr(&room.event, 0x8000)->ret, -EOPNOTSUPP);
    CHECK_EQ(io_event2_attr(&room.event, 0x8000)->cookie, 11);

    /* The one in the middle, the first and the last of a queue: order is kept among the rest. */
    for (uint64_t i = 10; i < 20; i++) {
        io_prep2_nop(&iocb);
        iocb.data = i;
        submit_one(ctx, &iocb);
    }
    CHECK_EQ(CALL(io_cancel2(ctx, 15)), 0);
    CHECK_EQ(CALL(io_cancel2(ctx, 10)), 0);
    CHECK_EQ(CALL(io_cancel2(ctx, 19)), 0);
    CHECK_EQ(CALL(io_getevents2(ctx, 72, &room.event, sizeof(room), &zero)), 72);

    /* Another context's request with the same data is not touched. */
    hold_submit(other, &other_hold, 100);
    hold_wait_running(2);
    io_prep2_nop(&iocb);
    iocb.data = 12;
    submit_one(other, &iocb);
    CHECK_EQ(CALL(io_cancel2(ctx, 12)), 0);
    expect_no_event(other, 0);
    CHECK_EQ(CALL(io_cancel2(ctx, 12)), -ENOENT);
    CHECK_EQ(CALL(io_cancel2(other, 12)), 0);
    CHECK_EQ(CALL(io_getevents2(ctx, 24, &room.event, sizeof(room), &zero)), 24);
    CHECK_EQ(CALL(io_getevents2(other, 24, &room.event, sizeof(room), &zero)), 24);
    CHECK_EQ(room.event.res, -ECANCELED);

    hold_release(&hold);
    {
        const uint64_t order[] = { 1, 3, 11, 13, 14, 16, 17, 18 };
        struct timespec limit = { PATIENCE_S, 0 };

        for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
            CHECK_EQ(CALL(io_getevents2(ctx, 24, &room.event, 24, &limit)), 24);
            CHECK_EQ(room.event.data, order[i]);
            CHECK_EQ(room.event.res, order[i] <= 3 ? 1 : 0);
        }
    }
    expect_no_event(ctx, 50);
    hold_release(&other_hold);
    get_one(other, &room.event);

    /* Completed ones are not found, and of the cancelled writes none was made. */
    CHECK_EQ(CALL(io_cancel2(ctx, 1)), -ENOENT);
    for (int i = 0; i < 8; i++) {
        CHECK_EQ(pread(fd, &seen, 1, i), 1);
        if (i != 3 && i != 1 && i != 2)
            CHECK_EQ(seen, 0);
    }
    int written = 0;
    for (int i = 1; i <= 3; i++) {
        CHECK_EQ(pread(fd, &seen, 1, i), 1);
        written += seen == 'x';
    }
    CHECK_EQ(written, 1);
    CHECK_EQ(ctx->submitted, ctx->completed);

    hard_hold_submit(ctx, &hard, 200);
    hard_hold_wait_running(1);
    CHECK_EQ(CALL(io_cancel2(ctx, 200)), -EALREADY);
    CHECK_EQ(CALL(io_cancel2(ctx, 200)), -EALREADY);
    expect_no_event(ctx, 50);
    hard_hold_release(&hard);
    get_one(ctx, &room.event);
    CHECK_EQ(room.event.data, 200);
    CHECK_EQ(room.event.res, 1);

    hard_hold_close(&hard);
    hold_close(&hold);
    hold_close(&other_hold);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    CHECK_EQ(CALL(io_destroy2(other)), 0);
    return 0;
}
