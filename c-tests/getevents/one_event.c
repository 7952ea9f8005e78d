/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * io_getevent2() gives one event, the oldest, of whatever size, and never a second one that would fit, from the ring, across overflow,
 * and to several threads at once; one that is larger than the room stays; it waits as io_getevents2() does.
 */
#include "test.h"

#define EVENTS 3000
#define THREADS 4

static io_context2_t ctx;
static unsigned seen[EVENTS];

/* An event of 24 bytes and 16 for each attribute. */
static void submit_nop(uint64_t data, unsigned attrs)
{
    union iocb_room request;

    io_prep2_nop(&request.iocb);
    request.iocb.data = data;
    for (unsigned i = 0; i < attrs; i++)
        CHECK(iocb2_add_attr(&request.iocb, (uint16_t)(0x8000 + i), 0, 0, NULL, 0) != NULL);
    submit_one(ctx, &request.iocb);
}

static size_t get(union event_room *room)
{
    ssize_t bytes = CALL(io_getevent2(ctx, &room->event, sizeof(*room), NULL));

    CHECK_CMP(bytes, >=, 24);
    CHECK_EQ(room->event.bytes, bytes);
    return (size_t)bytes;
}

static void *getter(void *arg)
{
    union event_room room;

    for (int i = 0; i < EVENTS / THREADS; i++) {
        size_t bytes = get(&room);

        CHECK_EQ(bytes, 24 + 16 * (room.event.data % 7));
        __atomic_fetch_add(&seen[room.event.data], 1, __ATOMIC_RELAXED);
    }
    return arg;
}

int main(void)
{
    const struct timespec now = { 0, 0 };
    const struct timespec soon = { 0, NSEC_PER_MSEC };
    const struct timespec wrong = { 0, NSEC_PER_SEC };
    pthread_t threads[THREADS];
    union event_room room;
    struct hold hold;

    /* A ring of one page, so that most of it overflows: some of the events alone are larger than that. */
    ctx = setup2(4096, 0, 0);
    CHECK_EQ(CALL(io_getevent2(ctx, &room.event, sizeof(room), &now)), 0);
    CHECK_EQ(CALL(io_getevent2(ctx, &room.event, sizeof(room), &soon)), 0);
    for (unsigned i = 0; i < 200; i++) {
        submit_nop(i, i % 2 == 0 ? 0 : i % 20 == 1 ? 256 : i % 7);
        CHECK_SOON(__atomic_load_n(&ctx->completed, __ATOMIC_ACQUIRE) == i + 1);
    }
    CHECK(io_ring2_overflowed(ctx));
    for (unsigned i = 0; i < 200; i++) {
        unsigned attrs = i % 2 == 0 ? 0 : i % 20 == 1 ? 256 : i % 7;

        /* Too small a room: it stays. */
        CHECK_EQ(CALL(io_getevent2(ctx, &room.event, 24 + 16 * attrs - 8, NULL)), -ENOBUFS);
        CHECK_EQ(CALL(io_getevent2(ctx, &room.event, 0, &now)), -ENOBUFS);
        CHECK_EQ(get(&room), 24 + 16 * attrs);
        CHECK_EQ(room.event.data, i);
    }
    CHECK_EQ(CALL(io_getevent2(ctx, &room.event, sizeof(room), &now)), 0);

    /* It waits for one that comes. */
    hold_submit(ctx, &hold, 7);
    CHECK_EQ(CALL(io_getevent2(ctx, &room.event, sizeof(room), &soon)), 0);
    hold_release(&hold);
    CHECK_EQ(get(&room), 24);
    CHECK_EQ(room.event.data, 7);
    hold_close(&hold);

    for (int i = 0; i < THREADS; i++)
        threads[i] = thread_start(getter, NULL);
    for (unsigned i = 0; i < EVENTS; i++)
        submit_nop(i, i % 7);
    for (int i = 0; i < THREADS; i++)
        thread_join(threads[i]);
    for (int i = 0; i < EVENTS; i++)
        CHECK_EQ(seen[i], 1);

    CHECK_EQ(CALL(io_getevent2(ctx, NULL, sizeof(room), &now)), -EFAULT);
    CHECK_EQ(CALL(io_getevent2(ctx, &room.event, sizeof(room), &wrong)), -EINVAL);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    CHECK_EQ(CALL(io_getevent2(ctx, &room.event, sizeof(room), NULL)), -EINVAL);
    CHECK_EQ(CALL(io_getevent2(NULL, &room.event, sizeof(room), NULL)), -EINVAL);
    return 0;
}
