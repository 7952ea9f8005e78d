/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * io_submit2() makes at most one wake-up system call, even for many requests, and none if no thread needs one. With
 * enough requests there are fewer wake-up calls than requests. The program replaces the C library's syscall(), by which
 * the library calls futex(2).
 */
#include "test.h"
#include "stress.h"
#include "syscall_hook.h"
#include <linux/futex.h>

static __thread bool submitting;
static __thread int wakes_here;
static __thread int waits_here;
static uint64_t wakes_anywhere;

static void before_syscall(long nr, const long args[6])
{
    int op = (int)args[1] & FUTEX_CMD_MASK;

    if (nr != SYS_futex)
        return;
    if (op == FUTEX_WAKE || op == FUTEX_WAKE_BITSET || op == FUTEX_WAKE_OP || op == FUTEX_REQUEUE ||
        op == FUTEX_CMP_REQUEUE) {
        __atomic_fetch_add(&wakes_anywhere, 1, __ATOMIC_RELAXED);
        if (submitting)
            wakes_here++;
    } else if (submitting) {
        waits_here++;
    }
}

static uint64_t submits;
static uint64_t submits_with_wake;
static uint64_t submits_with_more;
static uint64_t most_wakes;

static void submit_counted(io_context2_t ctx, const struct iocb2 *iocbs, size_t nbytes)
{
    wakes_here = 0;
    submitting = true;
    CHECK_EQ(io_submit2(ctx, iocbs, nbytes), nbytes);
    submitting = false;
    submits++;
    submits_with_wake += wakes_here != 0;
    submits_with_more += wakes_here > 1;
    if ((uint64_t)wakes_here > most_wakes)
        most_wakes = (uint64_t)wakes_here;
}

/* A lock that a worker waits for is a wake-up, too: a submit takes three. `most_with_more`: how many submits that may happen to. */
static void part(const char *what, uint64_t most_with_more)
{
    printf("%s: %" PRIu64 " submits, %" PRIu64 " with a wake-up, %" PRIu64 " with more, %" PRIu64 " at most in one\n", what, submits,
           submits_with_wake, submits_with_more, most_wakes);
    CHECK_CMP(submits_with_more, <=, most_with_more);
    CHECK_CMP(most_wakes, <=, 3);
    submits = 0;
    submits_with_wake = 0;
    submits_with_more = 0;
    most_wakes = 0;
}

/* Otherwise a worker may wait for a lock that the submit takes. The worker that a submit wakes may do so, too, if this thread loses the
 * processor just then. */
static bool all_asleep(void)
{
    return count_workers_in(SYS_futex) == count_workers();
}

int main(void)
{
    static struct io_event2 events[4096];
    static struct iocb2 iocbs[256];
    static char buf[256][512];
    int fd = temp_pattern_file(256 * 512, 1, 0);
    io_context2_t ctx = setup2(4096, 0, 4);

    for (size_t i = 0; i < 256; i++)
        io_prep2_pread(&iocbs[i], fd, buf[i], 512, (int64_t)(i * 512));
    /* Workers there are. */
    submit_all(ctx, iocbs, sizeof(iocbs));
    (void)get_events(ctx, 256, events, sizeof(events));

    /* One request, everybody asleep: there is a wake-up, and one; unless the request is left to this thread. */
    for (int i = 0; submits_with_wake < 50; i++) {
        if (i == 100 && wakes_anywhere == 0)
            SKIP("the library's futex calls do not come through syscall()");
        CHECK_CMP(i, <, 100000);
        CHECK_SOON(all_asleep());
        submit_counted(ctx, iocbs, sizeof(iocbs[0]));
        (void)get_events(ctx, 1, events, sizeof(events));
    }
    part("one request, workers asleep", submits / 10);

    for (int i = 0; i < 100; i++) {
        CHECK_SOON(all_asleep());
        submit_counted(ctx, iocbs, sizeof(iocbs));
        (void)get_events(ctx, 256, events, sizeof(events));
    }
    part("256 requests, workers asleep", submits / 10);

    for (int i = 0; i < 5000; i++) {
        submit_counted(ctx, iocbs, 4 * sizeof(iocbs[0]));
        if (i % 100 == 99)
            (void)get_events(ctx, 400, events, sizeof(events));
    }
    CHECK_CMP(submits_with_wake, <, 2500);
    part("4 requests, workers busy", submits);
    CHECK_RING_DRAINED(ctx, ring_submitted(ctx));
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
