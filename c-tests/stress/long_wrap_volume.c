/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * head and tail wrap at 2^32 by the volume of events alone, without a hook: 180 million NOPs and more, through
 * the ring in order, until both counters have wrapped and gone on.
 */
/* time limit: 1800 s */
#include "test.h"
#include "stress.h"

#define BATCH 500

int main(void)
{
    static struct iocb2 iocbs[BATCH];
    static struct io_event2 events[BATCH];
    io_context2_t ctx = setup2(16384, 0, 1);
    uint64_t published = 0;
    uint64_t n = 0;
    uint32_t last = 0;
    int64_t began = now_ns();

    for (size_t i = 0; i < BATCH; i++)
        io_prep2_nop(&iocbs[i]);
    /* Past the wrap by as much again as the ring holds, twice. */
    while (published < (UINT64_C(1) << 32) + 2 * 16384) {
        size_t have = 0;
        uint32_t tail;

        for (size_t i = 0; i < BATCH; i++)
            iocbs[i].data = n + i;
        submit_all(ctx, iocbs, sizeof(iocbs));
        while (have < BATCH) {
            ssize_t got;

            if (n / BATCH % 2 == 0) {
                got = (ssize_t)reap_user_space(ctx, events, sizeof(events), NULL);
                if (got == 0)
                    sched_yield();
            } else {
                got = io_getevents2(ctx, sizeof(events[0]), events, sizeof(events), NULL);
            }
            CHECK_CMP(got, >=, 0);
            for (size_t i = 0; i < (size_t)got / sizeof(events[0]); i++, have++) {
                if (events[i].data != n + have)
                    FAIL("event %" PRIu64 " out of place: %" PRIu64, n + have, (uint64_t)events[i].data);
            }
        }
        n += BATCH;
        tail = ring_tail(ctx);
        published += tail - last;
        last = tail;
    }
    CHECK_EQ(published, n * sizeof(events[0]));
    CHECK_CMP(ring_tail(ctx), <, 1 << 20);
    CHECK_EQ(ring_overflowed(ctx), 0);
    CHECK_RING_DRAINED(ctx, n);
    printf("%" PRIu64 " NOPs in %.0f s\n", n, (double)(now_ns() - began) / 1e9);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
