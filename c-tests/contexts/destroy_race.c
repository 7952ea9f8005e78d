/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * io_destroy2 from several threads at once: one gets 0, the others get -EINVAL. Threads that submit, reap, cancel, wait and ask
 * for descriptors meanwhile get correct answers, and then -EINVAL.
 */
#include "test.h"
#include "stress.h"

#define ROUNDS 200
#define DESTROYERS 3

static io_context2_t ctx;
static int fd;
static char buffers[4][4096];
static pthread_barrier_t barrier;
static int destroyed;
static uint64_t accepted;
static uint64_t reaped;

static void *destroyer(void *arg)
{
    int result;

    pthread_barrier_wait(&barrier);
    for (uintptr_t i = 0; i < (uintptr_t)arg; i++)
        sched_yield();
    result = io_destroy2(ctx);
    if (result == 0)
        __atomic_fetch_add(&destroyed, 1, __ATOMIC_RELAXED);
    else
        CHECK_EQ(result, -EINVAL);
    return NULL;
}

static void *submitter(void *arg)
{
    struct iocb2 iocbs[16];

    for (size_t i = 0; i < 16; i++) {
        if (i % 2 == 0)
            io_prep2_nop(&iocbs[i]);
        else
            io_prep2_pread(&iocbs[i], fd, buffers[(uintptr_t)arg], 4096, 0);
        iocbs[i].data = i;
    }
    pthread_barrier_wait(&barrier);
    for (;;) {
        ssize_t got = io_submit2(ctx, iocbs, sizeof(iocbs));

        if (got == -EINVAL)
            return NULL;
        if (got == -EAGAIN) {
            sched_yield();
            continue;
        }
        CHECK_CMP(got, >, 0);
        CHECK_EQ(got % (ssize_t)sizeof(iocbs[0]), 0);
        __atomic_fetch_add(&accepted, (uint64_t)got / sizeof(iocbs[0]), __ATOMIC_RELAXED);
    }
}

static void *reaper(void *arg)
{
    struct io_event2 events[8];

    (void)arg;
    pthread_barrier_wait(&barrier);
    for (;;) {
        ssize_t got = io_getevents2(ctx, sizeof(events[0]), events, sizeof(events), NULL);

        if (got == -EINVAL)
            return NULL;
        CHECK_CMP(got, >, 0);
        for (size_t i = 0; i < (size_t)got / sizeof(events[0]); i++) {
            CHECK_EQ(events[i].bytes, sizeof(events[0]));
            CHECK_CMP(events[i].data, <, 16);
            if (events[i].res != -ECANCELED)
                CHECK_EQ(events[i].res, events[i].data % 2 == 0 ? 0 : 4096);
        }
        __atomic_fetch_add(&reaped, (uint64_t)got / sizeof(events[0]), __ATOMIC_RELAXED);
    }
}

static void *meddler(void *arg)
{
    (void)arg;
    pthread_barrier_wait(&barrier);
    for (;;) {
        int got = io_ring_fd2(ctx);

        if (got == -EINVAL)
            return NULL;
        CHECK_CMP(got, >=, 0);
        close(got);
        got = io_cancel2(ctx, 3);
        if (got == -EINVAL)
            return NULL;
        CHECK(got == 0 || got == -ENOENT || got == -EALREADY);
    }
}

/* ---- Two threads that do nothing but destroy, as nearly at once as can be ----------------------- */

#define DUELS 2000

static uint32_t duel_turn;
static uint32_t duel_over;
static int duel_result;

static void wait_for_turn(uint32_t *turn, uint32_t value)
{
    for (int i = 0; __atomic_load_n(turn, __ATOMIC_ACQUIRE) != value; i++) {
        /* The other thread may need this processor. */
        if (i % 200 == 199)
            sched_yield();
    }
}

static void *duellist(void *arg)
{
    (void)arg;
    for (uint32_t i = 1; i <= fewer(DUELS); i++) {
        wait_for_turn(&duel_turn, i);
        duel_result = io_destroy2(ctx);
        __atomic_store_n(&duel_over, i, __ATOMIC_RELEASE);
    }
    return NULL;
}

static void duels(void)
{
    pthread_t thread = thread_start(duellist, NULL);

    for (uint32_t i = 1; i <= fewer(DUELS); i++) {
        int result;

        ctx = setup2(4096, 0, 0);
        __atomic_store_n(&duel_turn, i, __ATOMIC_RELEASE);
        /* About as long as it takes the other to see it; which of the two is first changes. */
        for (uint32_t spin = 0; spin < i % 64 * 4; spin++)
            __asm__ volatile("" ::: "memory");
        result = io_destroy2(ctx);
        wait_for_turn(&duel_over, i);
        CHECK(result == 0 || result == -EINVAL);
        CHECK(duel_result == 0 || duel_result == -EINVAL);
        CHECK((result == 0) != (duel_result == 0));
    }
    thread_join(thread);
}

int main(void)
{
    int descriptors;

    fd = temp_pattern_file(4096, 1, 0);
    descriptors = count_descriptors();
    duels();
    for (uint64_t round = 0; round < fewer(ROUNDS); round++) {
        pthread_t threads[DESTROYERS + 5];
        uintptr_t n = 0;

        /* No other context is set up meanwhile, so that a dead handle stays dead. */
        ctx = setup2(4096, 256, 0);
        destroyed = 0;
        pthread_barrier_init(&barrier, NULL, DESTROYERS + 5);
        for (uintptr_t i = 0; i < DESTROYERS; i++)
            threads[n++] = thread_start(destroyer, (void *)(uintptr_t)(round % 4 * 10));
        threads[n++] = thread_start(submitter, (void *)0);
        threads[n++] = thread_start(submitter, (void *)1);
        threads[n++] = thread_start(reaper, NULL);
        threads[n++] = thread_start(reaper, NULL);
        threads[n++] = thread_start(meddler, NULL);
        for (uintptr_t i = 0; i < n; i++)
            thread_join(threads[i]);
        CHECK_EQ(destroyed, 1);
        pthread_barrier_destroy(&barrier);
    }
    CHECK_CMP(reaped, <=, accepted);
    CHECK_CMP(reaped, >, 0);
    CHECK_EQ(count_descriptors(), descriptors);
    printf("%" PRIu64 " requests accepted, %" PRIu64 " events reaped\n", accepted, reaped);
    return 0;
}
