/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Overflow of a one-page ring by 100,000 events, reaped by io_getevents2 only: nothing is lost, doubled or reordered (one
 * worker), one call takes the events of the ring and of the overflow list, and the counters agree. Also for events of different
 * sizes, whose order shows at the ring's end.
 */
#include "test.h"
#include "stress.h"

#define EVENTS 100000

static io_context2_t ctx;

/* The event of request `number` has this many unknown attributes answered: 0 to 7. */
static unsigned int attributes_of(uint64_t number)
{
    return (unsigned int)(number * UINT64_C(0x9e3779b97f4a7c15) >> 61);
}

static void submit_varied(uint64_t first, uint64_t n)
{
    _Alignas(8) unsigned char room[64 * 200];

    while (n != 0) {
        struct iocb2 *iocb = (struct iocb2 *)(void *)room;
        size_t used = 0;
        size_t done = 0;

        while (n != 0 && sizeof(room) - used >= sizeof(*iocb) + 7 * sizeof(struct iocb_attr)) {
            io_prep2_nop(iocb);
            iocb->data = first;
            for (unsigned int i = 0; i < attributes_of(first); i++)
                CHECK(iocb2_add_attr(iocb, (uint16_t)(0x8000 + i), 0, first ^ i, NULL, 0) != NULL);
            used += iocb->bytes;
            iocb = iocb2_next(iocb);
            first++;
            n--;
        }
        while (done < used) {
            ssize_t got = io_submit2(ctx, (const struct iocb2 *)(const void *)(room + done), used - done);

            if (got == -EAGAIN) {
                sched_yield();
                continue;
            }
            CHECK_CMP(got, >, 0);
            done += (size_t)got;
        }
    }
}

static void *submitter(void *arg)
{
    (void)arg;
    submit_varied(0, EVENTS);
    return NULL;
}

/* Checks the events in `got` bytes, in order from `next`; returns the number after the last. */
static uint64_t check_events(const struct io_event2 *event, size_t got, uint64_t next)
{
    const char *end = (const char *)event + got;

    (void)count_events(event, got);
    for (; (const char *)event < end; event = io_event2_next(event), next++) {
        const struct iocb_attr_ret *ret = (const struct iocb_attr_ret *)(const void *)(event + 1);

        CHECK_EQ(event->data, next);
        CHECK_EQ(event->res, 0);
        CHECK_EQ(event->flags, 0);
        CHECK_EQ(event->bytes, sizeof(*event) + attributes_of(next) * sizeof(*ret));
        for (unsigned int i = 0; i < attributes_of(next); i++) {
            CHECK_EQ(ret[i].bytes, sizeof(*ret));
            CHECK_EQ(ret[i].id, 0x8000 + i);
            CHECK_EQ(ret[i].ret, -EOPNOTSUPP);
            CHECK_EQ(ret[i].cookie, next ^ i);
        }
    }
    return next;
}

static void run(bool at_once)
{
    static _Alignas(8) unsigned char room[EVENTS * 140];
    struct timespec limit = { .tv_sec = PATIENCE_S, .tv_nsec = 0 };
    uint64_t rng = 1;
    uint64_t next = 0;
    pthread_t thread;

    ctx = setup2(4096, EVENTS, 1);
    thread = thread_start(submitter, NULL);
    if (at_once) {
        ssize_t got;

        thread_join(thread);
        CHECK_SOON(ring_completed(ctx) == EVENTS);
        CHECK_CMP(ring_overflowed(ctx), >=, EVENTS - 4096 / sizeof(struct io_event2));
        CHECK_EQ(io_ring2_overflowed(ctx), 1);
        /* There is room for all: one call that does not wait gets them all. */
        got = CALL(io_getevents2(ctx, 0, (struct io_event2 *)(void *)room, sizeof(room), NULL));
        CHECK_CMP(got, >, 0);
        next = check_events((const struct io_event2 *)(const void *)room, (size_t)got, next);
        CHECK_EQ(next, EVENTS);
    } else {
        while (next < EVENTS) {
            /* From the smallest buffer that always suffices to one larger than the ring. */
            size_t nbytes = 136 + rng_below(&rng, 6000);
            ssize_t got = CALL(io_getevents2(ctx, sizeof(struct io_event2), (struct io_event2 *)(void *)room, nbytes, &limit));

            CHECK_CMP(got, >, 0);
            CHECK_CMP(got, <=, nbytes);
            next = check_events((const struct io_event2 *)(const void *)room, (size_t)got, next);
        }
        thread_join(thread);
    }
    CHECK_RING_DRAINED(ctx, EVENTS);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
}

int main(void)
{
    run(true);
    run(false);
    return 0;
}
