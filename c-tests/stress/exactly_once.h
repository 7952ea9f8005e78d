/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The common part of exactly_once_nop.h and exactly_once_read.h: eight reapers, half of them through the ring. They define
 * TOTAL, EVENTS_AT_ONCE and WAIT_MS, and take(), which looks at the reaped events and counts them.
 */
#include "test.h"
#include "stress.h"

#define SUBMITTERS 8
#define REAPERS 8

static io_context2_t ctx;
static struct seen seen;
static uint64_t next_number;
static uint64_t through_ring;
static uint64_t by_call;

static void take(const struct io_event2 *events, size_t got, uint64_t *counter);

static void *user_space_reaper(void *arg)
{
    struct io_event2 events[EVENTS_AT_ONCE];

    (void)arg;
    while (seen_count(&seen) < TOTAL) {
        ssize_t got = io_ring2_reap(ctx, events, sizeof(events));

        if (got > 0) {
            take(events, (size_t)got, &through_ring);
        } else if (got == 0 && io_ring2_overflowed(ctx)) {
            got = io_getevents2(ctx, 0, events, sizeof(events), NULL);
            CHECK_CMP(got, >=, 0);
            take(events, (size_t)got, &by_call);
        } else {
            CHECK_EQ(got, 0);
            usleep(50);
        }
    }
    return NULL;
}

static void *calling_reaper(void *arg)
{
    size_t min_bytes = (uintptr_t)arg * sizeof(struct io_event2);
    struct io_event2 events[EVENTS_AT_ONCE];

    while (seen_count(&seen) < TOTAL) {
        struct timespec timeout = timespec_ns(WAIT_MS * NSEC_PER_MSEC);
        ssize_t got = io_getevents2(ctx, min_bytes, events, sizeof(events), &timeout);

        CHECK_CMP(got, >=, 0);
        take(events, (size_t)got, &by_call);
    }
    return NULL;
}

/* Runs the submitters, each with its number, and the reapers, and sees that each event came once. */
static void run_all(void *(*submitter)(void *))
{
    pthread_t threads[SUBMITTERS + REAPERS];
    int n = 0;

    for (uintptr_t i = 0; i < REAPERS / 2; i++) {
        threads[n++] = thread_start(user_space_reaper, NULL);
        threads[n++] = thread_start(calling_reaper, (void *)(1 + i * 5));
    }
    for (uintptr_t i = 0; i < SUBMITTERS; i++)
        threads[n++] = thread_start(submitter, (void *)i);
    for (int i = 0; i < n; i++)
        thread_join(threads[i]);
    seen_check_all(&seen);
    CHECK_EQ(seen_count(&seen), TOTAL);
    CHECK_EQ(through_ring + by_call, TOTAL);
    CHECK_RING_DRAINED(ctx, TOTAL);
    /* Nobody went without work, or the test has not shown much. */
    CHECK_CMP(through_ring, >, 0);
    CHECK_CMP(by_call, >, 0);
}

static void report(const char *what, int64_t began)
{
    printf("%" PRIu64 " %s in %.1f s; %" PRIu64 " taken out of the ring without a call, %" PRIu64
           " by io_getevents2; %" PRIu64 " overflowed\n",
           (uint64_t)TOTAL, what, (double)(now_ns() - began) / 1e9, through_ring, by_call, ring_overflowed(ctx));
}
