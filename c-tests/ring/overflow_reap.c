/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Overflow of a one-page ring by 100,000 events, reaped in user space only: io_ring2_reap, and
 * io_getevents2 only when the ring is empty and the OVERFLOW flag is set. Nothing is lost, doubled or
 * reordered (one worker), the flag and the counters tell the truth; first with all events produced
 * before the first is reaped, then with the reaper asleep on the eventfd while they are produced.
 */
#include "test.h"
#include "stress.h"

#define EVENTS 100000

static io_context2_t ctx;

static void *submitter(void *arg)
{
    (void)arg;
    submit_nops(ctx, 0, EVENTS);
    return NULL;
}

/* Takes what there is, in order from `next`; returns the number after the last. */
static uint64_t drain(uint64_t next, uint64_t *calls)
{
    /* Room for a few events: io_getevents2 has to be called again and again. */
    struct io_event2 events[5];
    size_t got;

    while ((got = reap_user_space(ctx, events, sizeof(events), calls)) != 0) {
        CHECK_EQ(got % sizeof(events[0]), 0);
        for (size_t i = 0; i < got / sizeof(events[0]); i++) {
            CHECK_EQ(events[i].bytes, sizeof(events[0]));
            CHECK_EQ(events[i].flags, 0);
            CHECK_EQ(events[i].res, 0);
            CHECK_EQ(events[i].data, next);
            next++;
        }
    }
    return next;
}

static void all_then_reap(void)
{
    uint64_t calls = 0;
    uint64_t in_ring;
    int64_t end;

    ctx = setup2(4096, EVENTS, 1);
    CHECK_EQ(ctx->ring_bytes, 4096);
    CHECK_EQ(io_ring2_overflowed(ctx), 0);

    /* As many as the ring holds: no overflow. One more: overflow. */
    in_ring = 4096 / sizeof(struct io_event2);
    submit_nops(ctx, 0, in_ring);
    CHECK_SOON(ring_completed(ctx) == in_ring);
    CHECK_EQ(io_ring2_overflowed(ctx), 0);
    CHECK_EQ(ring_overflowed(ctx), 0);
    CHECK_EQ(ring_tail(ctx) - ring_head(ctx), in_ring * sizeof(struct io_event2));
    submit_nops(ctx, in_ring, 1);
    CHECK_SOON(ring_completed(ctx) == in_ring + 1);
    CHECK_EQ(io_ring2_overflowed(ctx), 1);
    CHECK_EQ(ring_overflowed(ctx), 1);

    submit_nops(ctx, in_ring + 1, EVENTS - in_ring - 1);
    CHECK_EQ(ring_submitted(ctx), EVENTS);
    CHECK_SOON(ring_completed(ctx) == EVENTS);
    CHECK_EQ(ring_overflowed(ctx), EVENTS - in_ring);
    CHECK_EQ(io_ring2_overflowed(ctx), 1);

    end = now_ns() + PATIENCE_NS;
    for (uint64_t next = 0; next < EVENTS;) {
        /* The flag may go only with the last event of the list. */
        if (next < EVENTS - 2 * in_ring)
            CHECK_EQ(io_ring2_overflowed(ctx), 1);
        next = drain(next, &calls);
        if (now_ns() > end)
            FAIL("%" PRIu64 " of %d events in 20 s", next, EVENTS);
    }
    CHECK_CMP(calls, >, 0);
    CHECK_RING_DRAINED(ctx, EVENTS);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
}

static void reap_by_eventfd(void)
{
    struct io_setup2_params params = params2();
    uint64_t next = 0;
    uint64_t calls = 0;
    uint64_t wakes = 0;
    pthread_t thread;
    int efd = eventfd(0, EFD_CLOEXEC);

    CHECK(efd >= 0);
    params.ring_bytes = 4096;
    params.max_requests = EVENTS;
    params.workers = 1;
    params.eventfd = efd;
    ctx = NULL;
    CHECK_EQ(CALL(io_setup2(IO_SETUP2_VERSION, &params, &ctx)), 0);
    thread = thread_start(submitter, NULL);
    while (next < EVENTS) {
        struct pollfd pollfd = { .fd = efd, .events = POLLIN };
        uint64_t value;

        /* Every event is followed by a signal: a reaper that has found nothing may sleep. */
        CHECK_EQ(poll(&pollfd, 1, PATIENCE_S * 1000), 1);
        CHECK_EQ(read(efd, &value, sizeof(value)), sizeof(value));
        CHECK_CMP(value, >, 0);
        wakes++;
        next = drain(next, &calls);
    }
    thread_join(thread);
    CHECK_RING_DRAINED(ctx, EVENTS);
    printf("%" PRIu64 " wake-ups, %" PRIu64 " events overflowed, %" PRIu64 " calls\n", wakes, ring_overflowed(ctx), calls);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    close(efd);
}

int main(void)
{
    all_then_reap();
    reap_by_eventfd();
    return 0;
}
