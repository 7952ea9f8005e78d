/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* `workers` limits how many requests of a context run at a time, and so how many threads it has; the other requests wait in order. */
#include "test.h"

enum { COUNT = 20 };

static void check(uint32_t workers)
{
    io_context2_t ctx = setup2(0, 0, workers);
    static struct hold holds[COUNT];
    static unsigned char buf[COUNT * 24];
    union event_room room;
    struct timespec limit = { PATIENCE_S, 0 };
    int64_t end;

    for (uint64_t i = 0; i < COUNT; i++)
        hold_submit(ctx, &holds[i], i);
    hold_wait_running((int)workers);

    /* It does not grow beyond, however long they wait. */
    end = now_ns() + 700 * NSEC_PER_MSEC;
    while (now_ns() < end) {
        CHECK_CMP(count_workers_in(SYS_preadv2), <=, (int)workers);
        CHECK_CMP(count_workers(), <=, (int)workers);
        sleep_ms(5);
    }
    CHECK_EQ(count_workers_in(SYS_preadv2), (int)workers);

    if (workers == 1) {
        for (uint64_t i = 0; i < COUNT; i++) {
            hold_release(&holds[i]);
            CHECK_EQ(CALL(io_getevents2(ctx, 24, &room.event, sizeof(room), &limit)), 24);
            CHECK_EQ(room.event.data, i);
            CHECK_EQ(room.event.res, 1);
        }
    } else {
        for (int i = 0; i < COUNT; i++)
            hold_release(&holds[i]);
        (void)get_events(ctx, COUNT, buf, sizeof(buf));
    }
    for (int i = 0; i < COUNT; i++)
        hold_close(&holds[i]);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    CHECK_SOON(count_workers() == 0);
}

int main(void)
{
    check(1);
    check(3);
    return 0;
}
