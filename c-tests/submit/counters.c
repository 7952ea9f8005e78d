/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The counters in the ring's header: accepted requests, produced events (including those of the overflow list), events that used the
 * overflow list, published and reaped bytes. Refused requests and io_issue2() do not count. While the list is not empty, the flag is
 * set.
 */
#include "test.h"

enum { COUNT = 1000, FIT = 4096 / 24 };

static void wait_completed(io_context2_t ctx, uint64_t n)
{
    CHECK_SOON(__atomic_load_n(&ctx->completed, __ATOMIC_ACQUIRE) == n);
}

int main(void)
{
    io_context2_t ctx = setup2(4096, 0, 1);
    io_context2_t other = setup2(4096, 0, 1);
    static unsigned char buf[COUNT * 24];
    static struct iocb2 iocbs[COUNT];
    union event_room room;
    struct iocb2 bad;

    for (uint64_t i = 0; i < COUNT; i++) {
        io_prep2_nop(&iocbs[i]);
        iocbs[i].data = i;
    }
    bad = iocbs[0];
    bad.bytes = 8;

    submit_all(ctx, iocbs, 5 * 64);
    CHECK_EQ(ctx->submitted, 5);
    wait_completed(ctx, 5);
    CHECK_EQ(ctx->tail, 5 * 24);
    CHECK_EQ(ctx->head, 0);
    CHECK_EQ(ctx->overflowed, 0);
    CHECK_EQ(ctx->flags, 0);

    CHECK_EQ(CALL(io_submit2(ctx, &bad, 64)), -EINVAL);
    CHECK_EQ(CALL(io_issue2(iocbs, &room.event, sizeof(room))), 24);
    CHECK_EQ(ctx->submitted, 5);

    CHECK_EQ(io_ring2_reap(ctx, &room.event, sizeof(room)), 24);
    CHECK_EQ(ctx->head, 24);
    CHECK_EQ(CALL(io_getevents2(ctx, 0, &room.event, 48, NULL)), 48);
    CHECK_EQ(ctx->head, 72);
    CHECK_EQ(ctx->tail, 5 * 24);
    (void)get_events(ctx, 2, buf, sizeof(buf));
    CHECK_EQ(ctx->head, ctx->tail);

    /* As many as fit, from here on to a full ring: no overflow yet. */
    submit_all(ctx, iocbs, FIT * 64);
    wait_completed(ctx, 5 + FIT);
    CHECK_EQ(ctx->overflowed, 0);
    CHECK_EQ(ctx->flags, 0);
    CHECK_EQ(ctx->tail, (5 + FIT) * 24);
    /* The rest does not. */
    submit_all(ctx, iocbs + FIT, (COUNT - FIT) * 64);
    wait_completed(ctx, 5 + COUNT);
    CHECK_EQ(ctx->submitted, 5 + COUNT);
    CHECK_EQ(ctx->overflowed, COUNT - FIT);
    CHECK_EQ(ctx->flags, IO_RING2_OVERFLOW);
    CHECK_EQ(ctx->tail, (5 + FIT) * 24);

    /* Room in the ring alone does not clear the flag, and no event passes those on the list. */
    for (uint64_t i = 0; i < FIT; i++) {
        CHECK_EQ(io_ring2_reap(ctx, &room.event, sizeof(room)), 24);
        CHECK_EQ(room.event.data, i);
    }
    submit_all(ctx, iocbs, 64);
    wait_completed(ctx, 5 + COUNT + 1);
    CHECK_EQ(ctx->flags, IO_RING2_OVERFLOW);
    CHECK_EQ(CALL(io_getevents2(ctx, 24, &room.event, 24, NULL)), 24);
    CHECK_EQ(room.event.data, FIT);
    (void)get_events(ctx, COUNT - FIT - 1 + 1, buf, sizeof(buf));
    for (uint64_t i = 0; i + FIT + 1 < COUNT; i++)
        CHECK_EQ(((const struct io_event2 *)(const void *)buf)[i].data, FIT + 1 + i);
    CHECK_EQ(((const struct io_event2 *)(const void *)buf)[COUNT - FIT - 1].data, 0);
    CHECK_EQ(ctx->flags, 0);
    CHECK_EQ(ctx->submitted, 6 + COUNT);
    CHECK_EQ(ctx->completed, 6 + COUNT);
    CHECK_CMP(ctx->overflowed, >=, COUNT - FIT);
    CHECK_EQ(ctx->head, ctx->tail);

    /* With the list empty, events go to the ring again. */
    const uint64_t overflowed = ctx->overflowed;
    submit_all(ctx, iocbs, 64);
    get_one(ctx, &room.event);
    CHECK_EQ(ctx->overflowed, overflowed);

    /* Another context's are its own. */
    CHECK_EQ(other->submitted, 0);
    CHECK_EQ(other->completed, 0);
    CHECK_EQ(other->tail, 0);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    CHECK_EQ(CALL(io_destroy2(other)), 0);
    return 0;
}
