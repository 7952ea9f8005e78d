/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The pool grows when requests wait and workers are blocked. If a context has no limit of workers, all its reads from pipes run,
 * and do not delay other requests. A context that has reached its limit does not delay another context.
 */
#include "test.h"

enum { COUNT = 32 };

int main(void)
{
    io_context2_t ctx = setup2(0, 0, 0);
    io_context2_t narrow = setup2(0, 0, 1);
    static struct hold holds[COUNT];
    static struct hold narrow_holds[COUNT];
    static unsigned char buf[COUNT * 24];
    union event_room room;
    struct iocb2 iocb;

    for (uint64_t i = 0; i < COUNT; i++)
        hold_submit(narrow, &narrow_holds[i], i);
    hold_wait_running(1);
    io_prep2_nop(&iocb);
    iocb.data = 1000;
    submit_one(ctx, &iocb);
    get_one(ctx, &room.event);
    CHECK_EQ(room.event.data, 1000);

    for (uint64_t i = 0; i < COUNT; i++)
        hold_submit(ctx, &holds[i], i);
    submit_one(ctx, &iocb);
    get_one(ctx, &room.event);
    CHECK_EQ(room.event.data, 1000);
    hold_wait_running(COUNT + 1);
    CHECK_EQ(count_workers_in(SYS_preadv2), COUNT + 1);
    submit_one(ctx, &iocb);
    get_one(ctx, &room.event);
    CHECK_EQ(room.event.data, 1000);

    /* Last first: none depends on another. */
    for (int i = COUNT - 1; i >= 0; i--) {
        hold_release(&holds[i]);
        get_one(ctx, &room.event);
        CHECK_EQ(room.event.data, i);
    }
    for (int i = 0; i < COUNT; i++)
        hold_release(&narrow_holds[i]);
    (void)get_events(narrow, COUNT, buf, sizeof(buf));
    for (int i = 0; i < COUNT; i++) {
        hold_close(&holds[i]);
        hold_close(&narrow_holds[i]);
    }
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    CHECK_EQ(CALL(io_destroy2(narrow)), 0);
    return 0;
}
