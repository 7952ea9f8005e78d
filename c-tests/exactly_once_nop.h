/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* For exactly_once_nop.c and long_exactly_once_nop.c, which define TOTAL. */
#include "test.h"
#include "stress.h"

#define SUBMITTERS 8
#define REAPERS 8
#define BATCH 50
/* The events that wait are the program's to limit: they cost memory, and nothing else bounds them. */
#define AHEAD 20000

static io_context2_t ctx;
static struct seen seen;
static uint64_t next_number;
static uint64_t through_ring;
static uint64_t by_call;

static void *submitter(void *arg)
{
    (void)arg;
    for (;;) {
        uint64_t first = __atomic_fetch_add(&next_number, BATCH, __ATOMIC_RELAXED);

        if (first >= TOTAL)
            return NULL;
        while (first > seen_count(&seen) + AHEAD)
            usleep(50);
        submit_nops(ctx, first, BATCH);
    }
}

/* Counts apart, so that the counters of the ring can be compared with something. */
static void take(const struct io_event2 *events, size_t got, uint64_t *counter)
{
    for (size_t i = 0; i < got / sizeof(*events); i++) {
        CHECK_EQ(events[i].bytes, sizeof(*events));
        CHECK_EQ(events[i].res, 0);
        seen_mark(&seen, events[i].data);
    }
    __atomic_fetch_add(counter, got / sizeof(*events), __ATOMIC_RELAXED);
}

static void *user_space_reaper(void *arg)
{
    struct io_event2 events[64];

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
    struct io_event2 events[64];

    while (seen_count(&seen) < TOTAL) {
        struct timespec timeout = timespec_ns(50 * NSEC_PER_MSEC);
        ssize_t got = io_getevents2(ctx, min_bytes, events, sizeof(events), &timeout);

        CHECK_CMP(got, >=, 0);
        take(events, (size_t)got, &by_call);
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[SUBMITTERS + REAPERS];
    int64_t began = now_ns();
    int n = 0;

    CHECK_EQ(TOTAL % BATCH, 0);
    seen_init(&seen, TOTAL);
    ctx = setup2(4096, 0, 0);
    for (uintptr_t i = 0; i < REAPERS / 2; i++) {
        threads[n++] = thread_start(user_space_reaper, NULL);
        threads[n++] = thread_start(calling_reaper, (void *)(1 + i * 5));
    }
    for (int i = 0; i < SUBMITTERS; i++)
        threads[n++] = thread_start(submitter, NULL);
    for (int i = 0; i < n; i++)
        thread_join(threads[i]);
    seen_check_all(&seen);
    CHECK_EQ(seen_count(&seen), TOTAL);
    CHECK_EQ(through_ring + by_call, TOTAL);
    CHECK_RING_DRAINED(ctx, TOTAL);
    /* Nobody went without work, or the test has not shown much. */
    CHECK_CMP(through_ring, >, 0);
    CHECK_CMP(by_call, >, 0);
    CHECK_CMP(ring_overflowed(ctx), >, 0);
    printf("%" PRIu64 " NOPs in %.1f s; %" PRIu64 " taken out of the ring without a call, %" PRIu64
           " by io_getevents2; %" PRIu64 " overflowed\n",
           (uint64_t)TOTAL, (double)(now_ns() - began) / 1e9, through_ring, by_call, ring_overflowed(ctx));
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
