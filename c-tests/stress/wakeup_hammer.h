/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* For wakeup_hammer.c and long_wakeup_hammer.c, which define SCALE. */
#include "test.h"
#include "stress.h"

#define WAITERS 4
#define EVENT sizeof(struct io_event2)

static io_context2_t ctx;

/*
 * A lost wake-up shows as a hang: nothing here polls, and most waits have no limit. Whoever makes
 * progress counts it; the watchdog says where it stopped.
 */
static uint64_t progress;
static bool finished;
static const char *part;

static void *watchdog(void *arg)
{
    uint64_t last = UINT64_MAX;
    int still = 0;

    (void)arg;
    while (!__atomic_load_n(&finished, __ATOMIC_RELAXED)) {
        uint64_t now = __atomic_load_n(&progress, __ATOMIC_RELAXED);

        still = now == last ? still + 1 : 0;
        last = now;
        if (still == 150)
            FAIL("%s: no progress for 15 s after %" PRIu64 " steps; submitted %" PRIu64 ", completed %" PRIu64
                 ", head %u, tail %u, flags %u",
                 part, now, ring_submitted(ctx), ring_completed(ctx), ring_head(ctx), ring_tail(ctx), ctx->flags);
        sleep_ms(100);
    }
    return NULL;
}

static pthread_t dog;

/* It looks at `ctx`, so it lives no longer than that. */
static void watchdog_start(void)
{
    finished = false;
    dog = thread_start(watchdog, NULL);
}

static void watchdog_stop(void)
{
    __atomic_store_n(&finished, true, __ATOMIC_RELAXED);
    thread_join(dog);
}

static void step(void)
{
    __atomic_fetch_add(&progress, 1, __ATOMIC_RELAXED);
}

/* ---- Two threads, each waiting for the other's NOP -------------------------------------------- */

static io_context2_t ping_ctx[2];

static void *ping_pong(void *arg)
{
    uintptr_t self = (uintptr_t)arg;
    uint64_t rng = self + 1;

    for (uint64_t round = 0; round < fewer(20000 * SCALE); round++) {
        /* The same for both: how many make a message. */
        uint64_t n = 1 + round % 5;
        struct io_event2 events[5];

        if (self == 0)
            submit_nops(ping_ctx[1], round, n);
        if (rng_below(&rng, 8) == 0)
            sched_yield();
        CHECK_EQ(io_getevents2(ping_ctx[self], n * EVENT, events, sizeof(events), NULL), n * EVENT);
        for (uint64_t i = 0; i < n; i++)
            CHECK_CMP(events[i].data - round, <, n);
        if (self == 1)
            submit_nops(ping_ctx[0], round, n);
        step();
    }
    return NULL;
}

/* ---- Several waiters that want different numbers of bytes, no limit --------------------------- */

static uint64_t taken;
static int waiters_left;
static uint64_t rounds;

static void *greedy_waiter(void *arg)
{
    static const size_t wanted[WAITERS] = { 1, 3, 10, 30 };
    size_t min = wanted[(uintptr_t)arg];
    struct io_event2 events[40];

    for (uint64_t round = 0; round < rounds; round++) {
        ssize_t got = io_getevents2(ctx, min * EVENT, events, sizeof(events), NULL);

        CHECK_CMP(got, >=, min * EVENT);
        __atomic_fetch_add(&taken, (uint64_t)got / EVENT, __ATOMIC_RELEASE);
        step();
    }
    __atomic_fetch_sub(&waiters_left, 1, __ATOMIC_RELEASE);
    return NULL;
}

/* Never more than this many ahead of what was taken: more than all waiters together may hold back. */
static void feed_greedy_waiters(void)
{
    uint64_t submitted = 0;
    uint64_t rng = 7;

    while (__atomic_load_n(&waiters_left, __ATOMIC_ACQUIRE) != 0) {
        uint64_t n = 1 + rng_below(&rng, 12);

        if (submitted - __atomic_load_n(&taken, __ATOMIC_ACQUIRE) > 100) {
            sched_yield();
            continue;
        }
        submit_nops(ctx, submitted, n);
        submitted += n;
        if (rng_below(&rng, 4) == 0)
            sched_yield();
        if (rng_below(&rng, 500) == 0)
            usleep(300);
    }
}

/* ---- Random timeouts, and signals in between -------------------------------------------------- */

static bool stop_signals;
static uint64_t signals_seen;
static uint64_t interrupted;
static uint64_t timed_out;
static __thread uint64_t signals_here;

static void on_signal(int sig)
{
    (void)sig;
    signals_here++;
    __atomic_fetch_add(&signals_seen, 1, __ATOMIC_RELAXED);
}

static void *timed_waiter(void *arg)
{
    uint64_t rng = (uintptr_t)arg + 1;
    struct io_event2 events[16];

    for (uint64_t round = 0; round < rounds; round++) {
        size_t min = (1 + rng_below(&rng, 6)) * EVENT;
        size_t nbytes = min + rng_below(&rng, 6) * EVENT;
        int64_t limit = (int64_t)rng_below(&rng, 300000);
        struct timespec timeout = timespec_ns(limit);
        bool endless = rng_below(&rng, 4) == 0;
        uint64_t signals = signals_here;
        int64_t began = now_ns();
        ssize_t got;

        got = io_getevents2(ctx, min, events, nbytes, endless ? NULL : &timeout);
        if (got == -EINTR) {
            /* Honest: a handler has run. */
            CHECK(signals_here != signals);
            __atomic_fetch_add(&interrupted, 1, __ATOMIC_RELAXED);
        } else {
            CHECK_CMP(got, >=, 0);
            CHECK_CMP(got, <=, nbytes);
            if ((size_t)got < min && signals_here == signals) {
                CHECK(!endless);
                CHECK_CMP(now_ns() - began, >=, limit);
                __atomic_fetch_add(&timed_out, 1, __ATOMIC_RELAXED);
            }
            __atomic_fetch_add(&taken, (uint64_t)got / EVENT, __ATOMIC_RELEASE);
        }
        step();
    }
    __atomic_fetch_sub(&waiters_left, 1, __ATOMIC_RELEASE);
    return NULL;
}

static pthread_t waiter_threads[WAITERS];

static void *signaller(void *arg)
{
    uint64_t rng = 3;

    (void)arg;
    while (!__atomic_load_n(&stop_signals, __ATOMIC_RELAXED)) {
        /* Not joined before this thread ends, so the identifiers are valid. */
        (void)pthread_kill(waiter_threads[rng_below(&rng, WAITERS)], SIGUSR1);
        usleep((useconds_t)rng_below(&rng, 100));
    }
    return NULL;
}

static void run_waiters(void *(*waiter)(void *), uint64_t n, bool with_signals)
{
    pthread_t storm;

    rounds = n;
    taken = 0;
    waiters_left = WAITERS;
    ctx = setup2(4096, 0, 0);
    watchdog_start();
    for (uintptr_t i = 0; i < WAITERS; i++)
        waiter_threads[i] = thread_start(waiter, (void *)i);
    if (with_signals)
        storm = thread_start(signaller, NULL);
    feed_greedy_waiters();
    if (with_signals) {
        __atomic_store_n(&stop_signals, true, __ATOMIC_RELAXED);
        thread_join(storm);
        stop_signals = false;
    }
    for (int i = 0; i < WAITERS; i++)
        thread_join(waiter_threads[i]);
    /* The events that were not taken are still there. */
    CHECK_SOON(ring_completed(ctx) == ring_submitted(ctx));
    for (uint64_t left = ring_submitted(ctx) - taken; left != 0; left--) {
        struct io_event2 event;

        CHECK_EQ(io_getevents2(ctx, EVENT, &event, EVENT, NULL), EVENT);
    }
    CHECK_RING_DRAINED(ctx, ring_submitted(ctx));
    watchdog_stop();
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
}

int main(void)
{
    struct sigaction action;
    pthread_t players[2];

    memset(&action, 0, sizeof(action));
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);

    part = "ping-pong";
    ping_ctx[0] = setup2(4096, 0, 1);
    ping_ctx[1] = setup2(4096, 0, 0);
    ctx = ping_ctx[0];
    watchdog_start();
    for (uintptr_t i = 0; i < 2; i++)
        players[i] = thread_start(ping_pong, (void *)i);
    for (int i = 0; i < 2; i++)
        thread_join(players[i]);
    watchdog_stop();
    for (int i = 0; i < 2; i++)
        CHECK_EQ(CALL(io_destroy2(ping_ctx[i])), 0);

    part = "waiters";
    run_waiters(greedy_waiter, fewer(10000 * SCALE), false);
    part = "waiters with timeouts and signals";
    run_waiters(timed_waiter, fewer(10000 * SCALE), true);
    printf("%" PRIu64 " waits timed out, %" PRIu64 " interrupted, %" PRIu64 " signals\n", timed_out, interrupted,
           signals_seen);
    CHECK_CMP(interrupted, >, 0);
    CHECK_CMP(timed_out, >, 0);
    return 0;
}
