/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * IOCB_ATTR_TIMING: submit, start and end are in order and lie within the program's own readings of the same clock. They
 * distinguish the wait in the queue from the call itself.
 */
#include "test.h"

static struct iocb_timing timing_of(const struct io_event2 *event)
{
    const struct iocb_attr_ret *ret = io_event2_attr(event, IOCB_ATTR_TIMING);
    struct iocb_timing timing;

    CHECK(ret != NULL);
    CHECK_EQ(ret->ret, 0);
    CHECK_EQ(ret->bytes, sizeof(*ret) + sizeof(timing));
    memcpy(&timing, ret + 1, sizeof(timing));
    CHECK_CMP(timing.submit_ns, <=, timing.start_ns);
    CHECK_CMP(timing.start_ns, <=, timing.end_ns);
    return timing;
}

int main(void)
{
    io_context2_t ctx = setup2(0, 0, 1);
    union event_room room;
    union iocb_room request;
    struct iocb_timing timing;
    struct iocb_timing hold_timing;
    unsigned char buf[2 * EVENT_BYTES_MAX];
    char data[4096];
    struct hold hold;
    int64_t before_hold;
    int64_t before;
    int64_t submitted;
    int64_t released;
    int64_t after;
    int fd = temp_pattern_file(sizeof(data), 1, 0);

    for (int i = 0; i < 1000; i++) {
        io_prep2_pread(&request.iocb, fd, data, sizeof(data), 0);
        CHECK(iocb2_add_attr(&request.iocb, IOCB_ATTR_TIMING, 0, 1, NULL, 0) != NULL);
        before = now_ns();
        submit_one(ctx, &request.iocb);
        submitted = now_ns();
        get_one(ctx, &room.event);
        after = now_ns();
        CHECK_EQ(room.event.res, sizeof(data));
        timing = timing_of(&room.event);
        CHECK_CMP(timing.submit_ns, >=, before);
        CHECK_CMP(timing.submit_ns, <=, submitted);
        CHECK_CMP(timing.end_ns, <=, after);

        before = now_ns();
        CHECK_EQ(CALL(io_issue2(&request.iocb, &room.event, sizeof(room))), 64);
        after = now_ns();
        timing = timing_of(&room.event);
        CHECK_CMP(timing.submit_ns, >=, before);
        CHECK_CMP(timing.end_ns, <=, after);
    }

    /* A call that takes 100 ms, and a request that waits behind it: one worker. */
    hold_init(&hold, 1);
    memcpy(&request.iocb, &hold.iocb, sizeof(hold.iocb));
    CHECK(iocb2_add_attr(&request.iocb, IOCB_ATTR_TIMING, 0, 1, NULL, 0) != NULL);
    before_hold = now_ns();
    submit_one(ctx, &request.iocb);
    hold_wait_running(1);
    io_prep2_nop(&request.iocb);
    request.iocb.data = 2;
    CHECK(iocb2_add_attr(&request.iocb, IOCB_ATTR_TIMING, 0, 1, NULL, 0) != NULL);
    before = now_ns();
    submit_one(ctx, &request.iocb);
    submitted = now_ns();
    sleep_ms(100);
    released = now_ns();
    hold_release(&hold);
    (void)get_events(ctx, 2, buf, sizeof(buf));
    after = now_ns();

    struct io_event2 *first = (struct io_event2 *)(void *)buf;
    struct io_event2 *second = io_event2_next(first);

    CHECK_EQ(first->data, 1);
    CHECK_EQ(first->res, 1);
    CHECK_EQ(second->data, 2);
    hold_timing = timing_of(first);
    timing = timing_of(second);
    CHECK_CMP(hold_timing.submit_ns, >=, before_hold);
    CHECK_CMP(hold_timing.start_ns, <, before);
    CHECK_CMP(hold_timing.end_ns, >=, released);
    CHECK_CMP(hold_timing.end_ns, <=, after);
    CHECK_CMP(timing.submit_ns, >=, before);
    CHECK_CMP(timing.submit_ns, <=, submitted);
    /* It began only when the worker was free. */
    CHECK_CMP(timing.start_ns, >=, released);
    CHECK_CMP(timing.start_ns, >=, hold_timing.end_ns);
    CHECK_CMP(timing.end_ns, <=, after);

    hold_close(&hold);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
