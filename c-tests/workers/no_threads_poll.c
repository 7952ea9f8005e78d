/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Without threads, requests complete also for a caller that polls without waiting: with min_bytes 0, or with a timeout of
 * zero, it gets all events.
 */
#include "test.h"
#include "stress.h"
#include "thread_hook.h"

#define N 1000

int main(void)
{
    for (int with_timeout = 0; with_timeout < 2; with_timeout++) {
        io_context2_t ctx = setup2(4096, 0, 0);
        struct timespec zero = { 0, 0 };
        struct io_event2 events[16];
        int64_t end = now_ns() + PATIENCE_NS;
        uint64_t got = 0;

        allowed = 0;
        submit_nops(ctx, 0, N);
        while (got < N) {
            ssize_t bytes = io_getevents2(ctx, with_timeout ? sizeof(events[0]) : 0, events, sizeof(events), &zero);

            CHECK_CMP(bytes, >=, 0);
            got += (uint64_t)bytes / sizeof(events[0]);
            if (now_ns() > end)
                FAIL("%" PRIu64 " of %d events by polling%s", got, N, with_timeout ? " with a timeout of zero" : "");
        }
        CHECK_CMP(failures, >, 0);
        CHECK_RING_DRAINED(ctx, N);
        CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    }
    return 0;
}
