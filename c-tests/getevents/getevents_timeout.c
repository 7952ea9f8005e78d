/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * io_getevents2()'s timeout: with zero it does not wait. It waits for a short timeout and no longer. The timeout counts from
 * the call on, also across wake-ups. At its end, the available events are returned. NULL has no end. min_bytes 0 never waits.
 */
#include "test.h"

static io_context2_t ctx;

static void *nop_later(void *arg)
{
    struct iocb2 iocb;

    (void)arg;
    wait_thread_asleep(getpid());
    io_prep2_nop(&iocb);
    submit_one(ctx, &iocb);
    return NULL;
}

static bool is_back;

/* An event every 50 ms. */
static void *nop_often(void *arg)
{
    struct iocb2 iocb;

    (void)arg;
    io_prep2_nop(&iocb);
    while (!__atomic_load_n(&is_back, __ATOMIC_RELAXED)) {
        sleep_ms(50);
        submit_one(ctx, &iocb);
    }
    return NULL;
}

int main(void)
{
    static unsigned char buf[65536];
    struct io_event2 *const events = (struct io_event2 *)(void *)buf;
    const int64_t waits_ms[] = { 1, 10, 50, 200 };
    struct timespec zero = { 0, 0 };
    struct timespec hour = { 3600, 0 };
    struct timespec forever = { INT64_MAX, 999999999 };
    struct timespec t;
    struct iocb2 iocb;
    pthread_t thread;
    int64_t began;
    int64_t took;
    int64_t best;

    ctx = setup2(0, 0, 0);
    io_prep2_nop(&iocb);

    /* Zero, and min_bytes 0 with any timeout: back at once. The machine may be busy: the best of many counts. */
    best = INT64_MAX;
    for (int i = 0; i < 10000 && best >= NSEC_PER_MSEC; i++) {
        began = now_ns();
        CHECK_EQ(CALL(io_getevents2(ctx, 24, events, sizeof(buf), &zero)), 0);
        CHECK_EQ(CALL(io_pgetevents2(ctx, 24, events, sizeof(buf), &zero, NULL)), 0);
        CHECK_EQ(CALL(io_getevents2(ctx, 0, events, sizeof(buf), &hour)), 0);
        CHECK_EQ(CALL(io_getevents2(ctx, 0, events, sizeof(buf), NULL)), 0);
        took = now_ns() - began;
        if (took < best)
            best = took;
    }
    CHECK_CMP(best, <, NSEC_PER_MSEC);

    /* Short ones: never too early, and at their best little too late. */
    for (size_t i = 0; i < sizeof(waits_ms) / sizeof(waits_ms[0]); i++) {
        best = INT64_MAX;
        for (int round = 0; round < 5 || (round < 50 && best >= waits_ms[i] * NSEC_PER_MSEC + 20 * NSEC_PER_MSEC); round++) {
            t = timespec_ns(waits_ms[i] * NSEC_PER_MSEC);
            began = now_ns();
            CHECK_EQ(CALL(io_getevents2(ctx, 24, events, sizeof(buf), &t)), 0);
            took = now_ns() - began;
            CHECK_CMP(took, >=, waits_ms[i] * NSEC_PER_MSEC);
            /* The timeout is the caller's: it is not written. */
            CHECK_EQ(t.tv_nsec, waits_ms[i] * NSEC_PER_MSEC);
            if (took < best)
                best = took;
        }
        CHECK_CMP(best, <, waits_ms[i] * NSEC_PER_MSEC + 20 * NSEC_PER_MSEC);
    }

    /* An event ends the wait long before its time. */
    struct timespec *limits[] = { &hour, &forever, NULL };

    for (size_t i = 0; i < 3; i++) {
        thread = thread_start(nop_later, NULL);
        CHECK_EQ(CALL(io_getevents2(ctx, 24, events, sizeof(buf), limits[i])), 24);
        thread_join(thread);
    }

    /* When the time is up, the available events are returned, although they have less than min_bytes. */
    submit_one(ctx, &iocb);
    submit_one(ctx, &iocb);
    t = timespec_ns(100 * NSEC_PER_MSEC);
    began = now_ns();
    CHECK_EQ(CALL(io_getevents2(ctx, 72, events, sizeof(buf), &t)), 48);
    CHECK_CMP(now_ns() - began, >=, 100 * NSEC_PER_MSEC);
    submit_one(ctx, &iocb);
    CHECK_SOON(__atomic_load_n(&ctx->completed, __ATOMIC_ACQUIRE) == ctx->submitted);
    CHECK_EQ(CALL(io_getevents2(ctx, 72, events, sizeof(buf), &zero)), 24);

    /* Events that are not enough do not start the time anew: else this never ends. */
    thread = thread_start(nop_often, NULL);
    t = timespec_ns(300 * NSEC_PER_MSEC);
    began = now_ns();
    CHECK_CMP(CALL(io_getevents2(ctx, sizeof(buf), events, sizeof(buf), &t)), >=, 0);
    CHECK_CMP(now_ns() - began, >=, 300 * NSEC_PER_MSEC);
    __atomic_store_n(&is_back, true, __ATOMIC_RELAXED);
    thread_join(thread);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
