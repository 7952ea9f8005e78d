/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * head and tail wrap at 2^32: rings whose counters start just below it (by a test hook) cross the wrap
 * with the ring full and empty, with and without overflow, reaped in user space, by io_getevents2 and
 * by both. Needs the library built with test hooks.
 */
#include "test.h"
#include "stress.h"

#define EVENTS 20000

static io_context2_t ctx;
static struct seen seen;
static uint32_t start;

static void *submitter(void *arg)
{
    (void)arg;
    submit_nops(ctx, 0, EVENTS);
    return NULL;
}

static void *reaper(void *arg)
{
    bool user_space = (uintptr_t)arg == 0;
    struct io_event2 events[7];

    while (seen_count(&seen) < EVENTS) {
        struct timespec timeout = timespec_ns(20 * NSEC_PER_MSEC);
        ssize_t got;

        if (user_space)
            got = (ssize_t)reap_user_space(ctx, events, sizeof(events), NULL);
        else
            got = io_getevents2(ctx, sizeof(events[0]), events, sizeof(events), &timeout);
        CHECK_CMP(got, >=, 0);
        for (size_t i = 0; i < (size_t)got / sizeof(events[0]); i++) {
            CHECK_EQ(events[i].bytes, sizeof(events[0]));
            seen_mark(&seen, events[i].data);
        }
    }
    return NULL;
}

/* A new context, whose counters start where the hook says. */
static void set_up(void)
{
    ctx = setup2(4096, 0, 1);
    CHECK_EQ(ring_head(ctx), start);
    CHECK_EQ(ring_tail(ctx), start);
    CHECK_EQ(io_ring2_overflowed(ctx), 0);
}

/* One event at a time: head and tail meet at each place, at 2^32 too. */
static void one_by_one(bool user_space)
{
    union event_room room;
    bool wrapped = start < 0x80000000u;

    set_up();
    for (uint64_t i = 0; i < 1000; i++) {
        uint32_t before = ring_tail(ctx);

        CHECK_EQ(ring_head(ctx), before);
        submit_nops(ctx, i, 1);
        CHECK_SOON(ring_completed(ctx) == i + 1);
        CHECK_EQ((uint32_t)(ring_tail(ctx) - before), sizeof(struct io_event2));
        CHECK_EQ(io_ring2_overflowed(ctx), 0);
        if (user_space)
            CHECK_EQ(io_ring2_reap(ctx, &room.event, sizeof(room)), sizeof(room.event));
        else
            CHECK_EQ(CALL(io_getevents2(ctx, 0, &room.event, sizeof(room), NULL)), sizeof(room.event));
        CHECK_EQ(room.event.data, i);
        CHECK_EQ((uint32_t)(ring_head(ctx) - before), sizeof(struct io_event2));
        wrapped |= ring_tail(ctx) < before;
    }
    CHECK(wrapped);
    CHECK_RING_DRAINED(ctx, 1000);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
}

/* Filled to the brim across the wrap, overflowing, then emptied in order. */
static void filled(bool user_space)
{
    union event_room room;
    uint64_t in_ring = 4096 / sizeof(struct io_event2);
    uint64_t n = in_ring * 3;

    set_up();
    /* Some first, so that the ring's end is not where the data area's is. */
    submit_nops(ctx, 0, 3);
    (void)get_events(ctx, 3, &room.event, sizeof(room));
    for (int round = 0; round < 5; round++) {
        uint64_t next = 0;

        submit_nops(ctx, 0, in_ring);
        CHECK_SOON(ring_completed(ctx) == ring_submitted(ctx));
        CHECK_EQ(io_ring2_overflowed(ctx), 0);
        CHECK_EQ((uint32_t)(ring_tail(ctx) - ring_head(ctx)), in_ring * sizeof(struct io_event2));
        submit_nops(ctx, in_ring, n - in_ring);
        CHECK_SOON(ring_completed(ctx) == ring_submitted(ctx));
        CHECK_EQ(io_ring2_overflowed(ctx), 1);
        while (next < n) {
            ssize_t got;

            if (user_space)
                got = (ssize_t)reap_user_space(ctx, &room.event, sizeof(room.event), NULL);
            else
                got = io_getevents2(ctx, sizeof(room.event), &room.event, sizeof(room.event), NULL);
            CHECK_EQ(got, sizeof(room.event));
            CHECK_EQ(room.event.data, next);
            next++;
        }
        CHECK_EQ(io_getevents2(ctx, 0, &room.event, sizeof(room), NULL), 0);
        CHECK_EQ(io_ring2_overflowed(ctx), 0);
    }
    CHECK_RING_DRAINED(ctx, 3 + 5 * n);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
}

static void concurrent(uintptr_t reapers)
{
    pthread_t threads[3];

    seen_init(&seen, EVENTS);
    set_up();
    threads[0] = thread_start(submitter, NULL);
    for (uintptr_t i = 0; i < 2; i++)
        threads[1 + i] = thread_start(reaper, (void *)(reapers >> i & 1));
    for (int i = 0; i < 3; i++)
        thread_join(threads[i]);
    seen_check_all(&seen);
    CHECK_RING_DRAINED(ctx, EVENTS);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    seen_free(&seen);
}

/* Waiting for bytes counts across the wrap. */
static void wait_for_bytes(void)
{
    struct io_event2 events[200];
    struct timespec limit = { .tv_sec = PATIENCE_S, .tv_nsec = 0 };

    set_up();
    for (uint64_t i = 0; i < 20; i++) {
        submit_nops(ctx, 0, 100);
        CHECK_EQ(CALL(io_getevents2(ctx, 100 * sizeof(events[0]), events, sizeof(events), &limit)),
                 100 * sizeof(events[0]));
    }
    CHECK_RING_DRAINED(ctx, 20 * 100);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
}

int main(int argc, char **argv)
{
    static const char *const starts[] = { "4294963200", "4294967288", "4294967272", "4294966016", "2147483640" };

    if (argc < 2) {
        /* The library may read the hook at any time: each start gets a process of its own. */
        for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
            pid_t child = fork();

            CHECK(child >= 0);
            if (child == 0) {
                CHECK_EQ(setenv("AIO2_HOOK_COUNTER", starts[i], 1), 0);
                exec_self(starts[i], NULL, NULL);
            }
            wait_child(child);
        }
        return 0;
    }
    start = (uint32_t)strtoul(argv[1], NULL, 10);
    one_by_one(false);
    one_by_one(true);
    filled(false);
    filled(true);
    for (uintptr_t reapers = 0; reapers < 4; reapers++)
        concurrent(reapers);
    wait_for_bytes();
    return 0;
}
