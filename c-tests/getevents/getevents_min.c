/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * io_getevents2() waits until it has min_bytes or the next event does not fit, and takes as many whole events as
 * fit, of different sizes, oldest first.
 */
#include "test.h"

static io_context2_t ctx;
static union event_room room;

/* A NOP whose event has `attrs` returns; waits until it is in the ring. */
static void produce(uint64_t data, int attrs)
{
    const uint64_t completed = __atomic_load_n(&ctx->completed, __ATOMIC_ACQUIRE);
    union iocb_room request;

    io_prep2_nop(&request.iocb);
    request.iocb.data = data;
    for (int i = 0; i < attrs; i++)
        CHECK(iocb2_add_attr(&request.iocb, 0x8000, 0, 0, NULL, 0) != NULL);
    submit_one(ctx, &request.iocb);
    CHECK_SOON(__atomic_load_n(&ctx->completed, __ATOMIC_ACQUIRE) == completed + 1);
}

static uint64_t nth_data(int n)
{
    struct io_event2 *event = &room.event;

    while (n-- > 0)
        event = io_event2_next(event);
    return event->data;
}

struct later {
    int count;
    int attrs;
};

/* Produces events one by one while the main thread waits. */
static void *produce_later(void *arg)
{
    const struct later *later = arg;
    for (int i = 0; i < later->count; i++) {
        wait_thread_asleep(getpid());
        produce(100 + (uint64_t)i, later->attrs);
    }
    return NULL;
}

static void *release_both(void *arg)
{
    struct hold *holds = arg;

    wait_thread_asleep(getpid());
    hold_release(&holds[0]);
    hold_release(&holds[1]);
    return NULL;
}

int main(void)
{
    struct later later;
    pthread_t thread;
    int64_t began;

    ctx = setup2(0, 0, 1);

    /* The available events are returned at once, whole ones, as many as fit. */
    produce(1, 0);
    produce(2, 1);
    produce(3, 3);
    produce(4, 0);
    CHECK_EQ(CALL(io_getevents2(ctx, 0, &room.event, 24 + 40 + 8, NULL)), 24 + 40);
    CHECK_EQ(nth_data(0), 1);
    CHECK_EQ(nth_data(1), 2);
    CHECK_EQ(room.event.bytes, 24);
    CHECK_EQ(io_event2_next(&room.event)->bytes, 40);
    /* The next one is 72 bytes: 71 are not enough, and the one behind it must not be taken instead. */
    CHECK_EQ(CALL(io_getevents2(ctx, 0, &room.event, 71, NULL)), -ENOBUFS);
    CHECK_EQ(CALL(io_getevents2(ctx, 24, &room.event, 71, NULL)), -ENOBUFS);
    CHECK_EQ(CALL(io_getevents2(ctx, 72, &room.event, 72, NULL)), 72);
    CHECK_EQ(nth_data(0), 3);
    CHECK_EQ(CALL(io_getevents2(ctx, 1, &room.event, sizeof(room), NULL)), 24);
    CHECK_EQ(nth_data(0), 4);
    CHECK_EQ(CALL(io_getevents2(ctx, 0, &room.event, sizeof(room), NULL)), 0);

    /* More than min_bytes is returned if it is there: min_bytes is no limit. */
    for (uint64_t i = 0; i < 10; i++)
        produce(i, 0);
    CHECK_EQ(CALL(io_getevents2(ctx, 24, &room.event, sizeof(room), NULL)), 240);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(nth_data(i), i);

    /* The next does not fit: it returns what it has, although that is less than min_bytes. */
    produce(1, 0);
    produce(2, 1);
    began = now_ns();
    CHECK_EQ(CALL(io_getevents2(ctx, 60, &room.event, 60, NULL)), 24);
    CHECK_CMP(now_ns() - began, <, PATIENCE_NS);
    CHECK_EQ(nth_data(0), 1);
    CHECK_EQ(CALL(io_getevents2(ctx, 0, &room.event, 40, NULL)), 40);
    CHECK_EQ(nth_data(0), 2);

    /* min_bytes between two sizes: 25 bytes take two events of 24. The second comes later. */
    produce(1, 0);
    later.count = 1;
    later.attrs = 0;
    thread = thread_start(produce_later, &later);
    CHECK_EQ(CALL(io_getevents2(ctx, 25, &room.event, sizeof(room), NULL)), 48);
    thread_join(thread);
    CHECK_EQ(nth_data(0), 1);
    CHECK_EQ(nth_data(1), 100);

    /* It waits for all of min_bytes, through several wake-ups. */
    later.count = 5;
    thread = thread_start(produce_later, &later);
    CHECK_EQ(CALL(io_getevents2(ctx, 5 * 24, &room.event, 5 * 24, NULL)), 5 * 24);
    thread_join(thread);
    for (int i = 0; i < 5; i++)
        CHECK_EQ(nth_data(i), 100 + i);

    /* While it waits, one comes that does not fit: what it has, or -ENOBUFS if it has nothing. */
    produce(1, 0);
    later.count = 1;
    later.attrs = 2;
    thread = thread_start(produce_later, &later);
    CHECK_EQ(CALL(io_getevents2(ctx, 25, &room.event, 48, NULL)), 24);
    thread_join(thread);
    CHECK_EQ(CALL(io_getevents2(ctx, 0, &room.event, sizeof(room), NULL)), 56);
    CHECK_EQ(nth_data(0), 100);
    thread = thread_start(produce_later, &later);
    CHECK_EQ(CALL(io_getevents2(ctx, 8, &room.event, 48, NULL)), -ENOBUFS);
    thread_join(thread);
    CHECK_EQ(CALL(io_getevents2(ctx, 0, &room.event, sizeof(room), NULL)), 56);
    thread = thread_start(produce_later, &later);
    CHECK_EQ(CALL(io_pgetevents2(ctx, 8, &room.event, 48, NULL, NULL)), -ENOBUFS);
    thread_join(thread);
    CHECK_EQ(CALL(io_getevents2(ctx, 0, &room.event, sizeof(room), NULL)), 56);

    /* Two that complete at almost the same time wake one waiter for both. */
    {
        struct hold holds[2];

        for (int round = 0; round < 20; round++) {
            hold_submit(ctx, &holds[0], 1);
            hold_submit(ctx, &holds[1], 2);
            thread = thread_start(release_both, holds);
            CHECK_EQ(CALL(io_getevents2(ctx, 48, &room.event, sizeof(room), NULL)), 48);
            thread_join(thread);
            CHECK_EQ(nth_data(0), 1);
            CHECK_EQ(nth_data(1), 2);
            hold_close(&holds[0]);
            hold_close(&holds[1]);
        }
    }
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
