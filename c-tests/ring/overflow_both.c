/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Overflow of a one-page ring by 100,000 events, reaped at once by three threads in user space and three in io_getevents2, two
 * submitters, any number of workers: every event comes out exactly once, and the counters agree. Then with one worker: each
 * reaper sees its events in order.
 */
#include "test.h"
#include "stress.h"

#define EVENTS 100000
#define REAPERS 6
#define ROUNDS 5

static io_context2_t ctx;
static struct seen seen;
static bool ordered;
static uint64_t through_ring;

static void *submitter(void *arg)
{
    uint64_t half = (uint64_t)(uintptr_t)arg;

    if (ordered) {
        if (half == 0)
            submit_nops(ctx, 0, EVENTS);
    } else {
        submit_nops(ctx, half * (EVENTS / 2), EVENTS / 2);
    }
    return NULL;
}

static void *reaper(void *arg)
{
    bool user_space = (uintptr_t)arg % 2 == 0;
    struct io_event2 events[32];
    uint64_t last = 0;
    bool first = true;

    while (seen_count(&seen) < EVENTS) {
        struct timespec timeout = timespec_ns(20 * NSEC_PER_MSEC);
        ssize_t got;

        if (user_space) {
            /* Room for one event, or for some, by turns. */
            got = io_ring2_reap(ctx, events, sizeof(events));
            if (got > 0)
                __atomic_fetch_add(&through_ring, 1, __ATOMIC_RELAXED);
            else if (io_ring2_overflowed(ctx))
                got = io_getevents2(ctx, 0, events, sizeof(events), NULL);
            else
                sched_yield();
        } else {
            got = io_getevents2(ctx, sizeof(events[0]), events, sizeof(events), &timeout);
        }
        CHECK_CMP(got, >=, 0);
        CHECK_EQ(got % (ssize_t)sizeof(events[0]), 0);
        for (size_t i = 0; i < (size_t)got / sizeof(events[0]); i++) {
            CHECK_EQ(events[i].bytes, sizeof(events[0]));
            CHECK_EQ(events[i].res, 0);
            seen_mark(&seen, events[i].data);
            if (ordered && !first && events[i].data <= last)
                FAIL("a reaper saw %" PRIu64 " after %" PRIu64, events[i].data, last);
            last = events[i].data;
            first = false;
        }
    }
    return NULL;
}

static void round_of(uint32_t workers)
{
    pthread_t threads[2 + REAPERS];

    ordered = workers == 1;
    seen_init(&seen, EVENTS);
    ctx = setup2(4096, EVENTS, workers);
    for (uintptr_t i = 0; i < REAPERS; i++)
        threads[2 + i] = thread_start(reaper, (void *)i);
    for (uintptr_t i = 0; i < 2; i++)
        threads[i] = thread_start(submitter, (void *)i);
    for (int i = 0; i < 2 + REAPERS; i++)
        thread_join(threads[i]);
    seen_check_all(&seen);
    CHECK_RING_DRAINED(ctx, EVENTS);
    printf("workers %u: %" PRIu64 " of %d events overflowed, %" PRIu64 " reaped in user space\n", workers,
           ring_overflowed(ctx), EVENTS, __atomic_exchange_n(&through_ring, 0, __ATOMIC_RELAXED));
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    seen_free(&seen);
}

int main(void)
{
    for (uint64_t i = 0; i < fewer(ROUNDS); i++) {
        round_of(0);
        round_of(1);
    }
    return 0;
}
