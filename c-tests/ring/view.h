/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* I/O on a context whose view of the ring is being taken away: for view_moved.c and view_unmapped.c. */
#include "test.h"
#include "stress.h"

#define EVENTS 20000

static io_context2_t ctx;
static struct seen seen;

static void *submitter(void *arg)
{
    (void)arg;
    submit_nops(ctx, 0, EVENTS);
    return NULL;
}

static void *reaper(void *arg)
{
    struct io_event2 events[16];

    (void)arg;
    while (seen_count(&seen) < EVENTS) {
        struct timespec timeout = timespec_ns(20 * NSEC_PER_MSEC);
        ssize_t got = io_getevents2(ctx, sizeof(events[0]), events, sizeof(events), &timeout);

        CHECK_CMP(got, >=, 0);
        for (size_t i = 0; i < (size_t)got / sizeof(events[0]); i++)
            seen_mark(&seen, events[i].data);
    }
    return NULL;
}
