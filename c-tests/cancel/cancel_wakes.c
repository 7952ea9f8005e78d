/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The event of a cancelled request wakes a waiter, and comes through the overflow list when the ring is full. */
#include "test.h"

static io_context2_t ctx;

static void *cancel_later(void *arg)
{
    wait_thread_asleep(getpid());
    CHECK_EQ(CALL(io_cancel2(ctx, *(uint64_t *)arg)), 0);
    return NULL;
}

int main(void)
{
    static unsigned char buf[1000 * 24];
    union event_room room;
    struct hold hold;
    struct iocb2 iocb;
    uint64_t data = 5;
    pthread_t thread;

    ctx = setup2(4096, 0, 1);
    hold_submit(ctx, &hold, 1);
    hold_wait_running(1);
    io_prep2_nop(&iocb);
    iocb.data = data;
    submit_one(ctx, &iocb);
    thread = thread_start(cancel_later, &data);
    CHECK_EQ(CALL(io_getevents2(ctx, 24, &room.event, sizeof(room), NULL)), 24);
    thread_join(thread);
    CHECK_EQ(room.event.data, 5);
    CHECK_EQ(room.event.res, -ECANCELED);

    for (uint64_t i = 0; i < 1000; i++) {
        iocb.data = 1000 + i;
        submit_one(ctx, &iocb);
    }
    /* Last first: events come in the order in which they were produced, not submitted. */
    for (uint64_t i = 1000; i-- > 0;)
        CHECK_EQ(CALL(io_cancel2(ctx, 1000 + i)), 0);
    CHECK_EQ(ctx->completed, 1001);
    CHECK_CMP(ctx->overflowed, >, 0);
    CHECK(io_ring2_overflowed(ctx));
    (void)get_events(ctx, 1000, buf, sizeof(buf));
    for (uint64_t i = 0; i < 1000; i++) {
        const struct io_event2 *event = (const struct io_event2 *)(const void *)buf + i;

        CHECK_EQ(event->data, 1999 - i);
        CHECK_EQ(event->res, -ECANCELED);
    }
    hold_release(&hold);
    get_one(ctx, &room.event);
    CHECK_EQ(room.event.data, 1);
    CHECK_EQ(room.event.res, 1);
    hold_close(&hold);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
