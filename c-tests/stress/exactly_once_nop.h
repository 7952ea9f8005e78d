/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* For exactly_once_nop.c and long_exactly_once_nop.c, which define MOST. */
#define EVENTS_AT_ONCE 64
#define WAIT_MS 50
#define BATCH 50
#define TOTAL (fewer(MOST / BATCH) * BATCH)
#include "exactly_once.h"

/* The events that wait are the program's to limit: they cost memory, and nothing else bounds them. */
#define AHEAD 20000

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

int main(void)
{
    int64_t began = now_ns();

    CHECK_EQ(TOTAL % BATCH, 0);
    seen_init(&seen, TOTAL);
    ctx = setup2(4096, 0, 0);
    run_all(submitter);
    CHECK_CMP(ring_overflowed(ctx), >, 0);
    report("NOPs", began);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
