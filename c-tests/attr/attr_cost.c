/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The cost of attributes, in readings of the clock, which are counted: a request with TIMING has at most three more readings
 * than one without. A request without attributes has none for them.
 */
#include "test.h"

static unsigned long readings;

/* In place of the C library's. */
int clock_gettime(clockid_t clock, struct timespec *time)
{
    __atomic_fetch_add(&readings, 1, __ATOMIC_RELAXED);
    return (int)syscall(SYS_clock_gettime, clock, time);
}

static unsigned long so_far(void)
{
    return __atomic_load_n(&readings, __ATOMIC_RELAXED);
}

enum { COUNT = 500 };

/* The readings of that many requests behind one that holds up the only worker; submitted one by one, or in one call. */
static unsigned long through_ring(io_context2_t ctx, bool timed, bool one_call)
{
    static _Alignas(8) unsigned char iocbs[COUNT * 80];
    static _Alignas(8) unsigned char events[(COUNT + 1) * 64];
    unsigned long before;
    struct hold hold;
    size_t bytes = 0;

    hold_submit(ctx, &hold, 0);
    hold_wait_running(1);
    before = so_far();
    for (int i = 0; i < COUNT; i++) {
        struct iocb2 *iocb = (struct iocb2 *)(void *)(iocbs + bytes);

        io_prep2_nop(iocb);
        if (timed)
            CHECK(iocb2_add_attr(iocb, IOCB_ATTR_TIMING, 0, 0, NULL, 0) != NULL);
        bytes += iocb->bytes;
        if (!one_call)
            CHECK_EQ(io_submit2(ctx, iocb, iocb->bytes), iocb->bytes);
    }
    if (one_call)
        CHECK_EQ(io_submit2(ctx, (struct iocb2 *)(void *)iocbs, bytes), bytes);
    hold_release(&hold);
    while (__atomic_load_n(&ctx->completed, __ATOMIC_ACQUIRE) != ctx->submitted)
        sched_yield();
    before = so_far() - before;
    (void)get_events(ctx, COUNT + 1, events, sizeof(events));
    hold_close(&hold);
    return before;
}

int main(void)
{
    io_context2_t ctx = setup2(1 << 20, 0, 1);
    union iocb_room request;
    union event_room room;
    unsigned long before;
    unsigned long plain;
    unsigned long timed;

    before = so_far();
    (void)now_ns();
    if (so_far() != before + 1)
        SKIP("the clock's readings cannot be counted here");

    /* In the caller. */
    io_prep2_nop(&request.iocb);
    before = so_far();
    CHECK_EQ(io_issue2(&request.iocb, &room.event, sizeof(room)), 24);
    CHECK_EQ(so_far() - before, 0);
    CHECK(iocb2_add_attr(&request.iocb, IOCB_ATTR_TIMING, 0, 0, NULL, 0) != NULL);
    CHECK(iocb2_add_attr(&request.iocb, IOCB_ATTR_WORKER, 0, 0, NULL, 0) != NULL);
    before = so_far();
    CHECK_EQ(io_issue2(&request.iocb, &room.event, sizeof(room)), 24 + 40 + 24);
    CHECK_EQ(so_far() - before, 2);
    /* One that makes a system call. */
    io_prep2_syscall(&request.iocb, SYS_fsync, (uint64_t)-1, 0, 0, 0, 0, 0);
    CHECK(iocb2_add_attr(&request.iocb, IOCB_ATTR_TIMING, 0, 0, NULL, 0) != NULL);
    before = so_far();
    CHECK_EQ(io_issue2(&request.iocb, &room.event, sizeof(room)), 24 + 40);
    CHECK_EQ(so_far() - before, 3);

    /* In the worker, which has readings of its own: for the watcher, and when it falls asleep, a few for all of them. */
    for (int one_call = 0; one_call < 2; one_call++) {
        plain = through_ring(ctx, false, one_call != 0);
        timed = through_ring(ctx, true, one_call != 0);
        fprintf(stderr, "%d requests, %s: %lu readings, with TIMING %lu\n", COUNT,
                one_call != 0 ? "one submit" : "one by one", plain, timed);
        CHECK_CMP(timed, <=, plain + 3 * COUNT + 50);
        if (one_call != 0)
            CHECK_CMP(timed, <=, plain + 2 * COUNT + 50);
    }
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
