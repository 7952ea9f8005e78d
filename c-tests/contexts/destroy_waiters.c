/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * io_destroy2 wakes every thread that waits in io_getevents2 or io_pgetevents2, and each gets -EINVAL;
 * with and without a request that runs until the end, however short before the threads began to wait.
 */
#include "test.h"
#include "stress.h"

#define WAITERS 8
#define ROUNDS 300

static io_context2_t ctx;
static int waiting;

static void *waiter(void *arg)
{
    uintptr_t number = (uintptr_t)arg;
    struct io_event2 events[8];
    struct timespec limit = { .tv_sec = 1000, .tv_nsec = 0 };
    size_t min_bytes = sizeof(events[0]) * (1 + number % 3);
    ssize_t got;

    __atomic_fetch_add(&waiting, 1, __ATOMIC_RELEASE);
    if (number % 4 == 0) {
        sigset_t mask;

        sigfillset(&mask);
        got = io_pgetevents2(ctx, min_bytes, events, sizeof(events), NULL, &mask);
    } else {
        got = io_getevents2(ctx, min_bytes, events, sizeof(events), number % 4 == 1 ? &limit : NULL);
    }
    CHECK_EQ(got, -EINVAL);
    return NULL;
}

static void *destroy(void *arg)
{
    (void)arg;
    CHECK_EQ(io_destroy2(ctx), 0);
    return NULL;
}

static void round_of(int round)
{
    pthread_t threads[WAITERS];
    struct hard_hold hold;
    bool holding = round % 3 == 0;
    int64_t began;

    ctx = setup2(4096, 0, 1);
    if (holding)
        hard_hold_submit(ctx, &hold, 0);
    waiting = 0;
    for (uintptr_t i = 0; i < WAITERS; i++)
        threads[i] = thread_start(waiter, (void *)i);
    if (round % 2 == 0) {
        while (__atomic_load_n(&waiting, __ATOMIC_ACQUIRE) < WAITERS)
            sched_yield();
    }
    if (round % 20 == 0)
        sleep_ms(20);
    /* Were it still queued, it would be cancelled, and its event could come before the -EINVAL. */
    if (holding)
        hard_hold_wait_running(1);
    began = now_ns();
    if (!holding) {
        CHECK_EQ(CALL(io_destroy2(ctx)), 0);
        for (int i = 0; i < WAITERS; i++)
            thread_join(threads[i]);
    } else {
        /* The destruction waits for the read; the waiters do not. */
        pthread_t destroyer = thread_start(destroy, NULL);

        for (int i = 0; i < WAITERS; i++)
            thread_join(threads[i]);
        hard_hold_release(&hold);
        thread_join(destroyer);
        hard_hold_close(&hold);
    }
    CHECK_CMP(now_ns() - began, <, PATIENCE_NS);
    CHECK_EQ(CALL(io_destroy2(ctx)), -EINVAL);
}

int main(void)
{
    for (int round = 0; round < ROUNDS; round++)
        round_of(round);
    return 0;
}
