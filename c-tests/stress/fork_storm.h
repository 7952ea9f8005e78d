/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The fork storm, for fork_storm.c and long_fork_storm.c, which define FORKS. */
#include "test.h"
#include "stress.h"

#define FORKERS 4
#define READERS 2
#define DEPTH 32
#define BLOCK 512
#define BLOCKS 256

static io_context2_t ctx;      /* the heavy I/O is here */
static io_context2_t idle_ctx; /* has an event in its ring and several on its overflow list */
static int data_fd;
static bool stop;
static uint64_t forks_done;
static uint64_t reads_done;

/* ---- What the children do --------------------------------------------------------------------- */

static void child_calls(io_context2_t inherited)
{
    struct io_event2 events[4];
    struct timespec second = { .tv_sec = 1, .tv_nsec = 0 };
    struct iocb2 iocb;

    io_prep2_nop(&iocb);
    CHECK_EQ(io_submit2(inherited, &iocb, sizeof(iocb)), -EINVAL);
    CHECK_EQ(io_getevents2(inherited, 0, events, sizeof(events), NULL), -EINVAL);
    CHECK_EQ(io_getevents2(inherited, 24, events, sizeof(events), &second), -EINVAL);
    CHECK_EQ(io_pgetevents2(inherited, 24, events, sizeof(events), NULL, NULL), -EINVAL);
    CHECK_EQ(io_cancel2(inherited, 1), -EINVAL);
    CHECK_EQ(io_ring_fd2(inherited), -EINVAL);
    CHECK_EQ(io_destroy2(inherited), -EINVAL);
}

/* The inherited ring is empty for the child: it can neither see nor steal the parent's events. */
static void child_reaps(io_context2_t inherited)
{
    union event_room room;

    for (int i = 0; i < 3; i++)
        CHECK_EQ(io_ring2_reap(inherited, &room.event, sizeof(room)), 0);
    CHECK_EQ(io_ring2_overflowed(inherited), 0);
}

/* A context of its own, real I/O on it, checked. */
static void child_does_io(uint64_t seed)
{
    io_context2_t own = setup2(4096, 0, 0);
    unsigned char block[8][BLOCK];
    struct iocb2 iocbs[8];
    struct io_event2 events[8];
    char path[] = "/dev/shm/aio2-fork.XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);

    CHECK(fd >= 0);
    CHECK_EQ(unlink(path), 0);
    for (size_t i = 0; i < 8; i++) {
        fill_pattern(block[i], BLOCK, i * BLOCK, seed);
        io_prep2_pwrite(&iocbs[i], fd, block[i], BLOCK, (int64_t)(i * BLOCK));
        iocbs[i].data = i;
    }
    submit_all(own, iocbs, sizeof(iocbs));
    (void)get_events(own, 8, events, sizeof(events));
    for (size_t i = 0; i < 8; i++) {
        CHECK_EQ(events[i].res, BLOCK);
        memset(block[i], 0, BLOCK);
        io_prep2_pread(&iocbs[i], fd, block[i], BLOCK, (int64_t)(i * BLOCK));
        iocbs[i].data = i;
    }
    submit_all(own, iocbs, sizeof(iocbs));
    (void)get_events(own, 8, events, sizeof(events));
    for (size_t i = 0; i < 8; i++) {
        CHECK_EQ(events[i].res, BLOCK);
        CHECK_PATTERN(block[i], BLOCK, i * BLOCK, seed);
    }
    /* A descriptor of the parent's, at once with the parent. */
    io_prep2_pread(&iocbs[0], data_fd, block[0], BLOCK, 0);
    submit_one(own, &iocbs[0]);
    (void)get_events(own, 1, events, sizeof(events));
    CHECK_EQ(events[0].res, BLOCK);
    CHECK_PATTERN(block[0], BLOCK, 0, 1);
    CHECK_RING_DRAINED(own, 17);
    if (seed % 2 == 0)
        CHECK_EQ(io_destroy2(own), 0);
    close(fd);
}

static void __attribute__((noreturn)) child(uint64_t number)
{
    /* Alarms are not inherited. */
    alarm(3 * PATIENCE_S);
    switch (number % 6) {
    case 0:
        _exit(0);
    case 1:
        exit(0);
    case 2:
        child_does_io(number);
        child_calls(ctx);
        exit(0);
    case 3:
        child_calls(ctx);
        child_calls(idle_ctx);
        _exit(0);
    case 4:
        child_reaps(ctx);
        child_reaps(idle_ctx);
        exit(0);
    default:
        child_does_io(number);
        if (number % 12 == 5) {
            /* And once more: the grandchild has no contexts either, its parent's included. */
            io_context2_t own = setup2(4096, 0, 0);
            pid_t grandchild;

            submit_nops(own, 0, 10);
            grandchild = fork();
            CHECK(grandchild >= 0);
            if (grandchild == 0) {
                alarm(3 * PATIENCE_S);
                child_calls(own);
                child_reaps(own);
                child_calls(ctx);
                child_does_io(number);
                exit(0);
            }
            wait_child(grandchild);
            CHECK_SOON(ring_completed(own) == 10);
        }
        _exit(0);
    }
}

/* ---- What the parent does --------------------------------------------------------------------- */

static void *forker(void *arg)
{
    (void)arg;
    for (;;) {
        uint64_t number = __atomic_fetch_add(&forks_done, 1, __ATOMIC_RELAXED);
        pid_t pid;

        if (number >= fewer(FORKS))
            return NULL;
        pid = fork();
        CHECK(pid >= 0);
        if (pid == 0)
            child(number);
        wait_child(pid);
    }
}

static struct {
    unsigned char buf[BLOCK];
    uint64_t block;
    uint32_t busy;
    uint32_t generation;
} slots[READERS * DEPTH];

/* Keeps its share of the slots in flight. */
static void *submitter(void *arg)
{
    uintptr_t first = (uintptr_t)arg * DEPTH;
    uint64_t rng = first + 1;

    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        struct iocb2 iocbs[DEPTH];
        size_t n = 0;

        for (uintptr_t i = first; i < first + DEPTH; i++) {
            if (__atomic_load_n(&slots[i].busy, __ATOMIC_ACQUIRE) != 0)
                continue;
            slots[i].block = rng_below(&rng, BLOCKS);
            slots[i].generation++;
            memset(slots[i].buf, 0, BLOCK);
            __atomic_store_n(&slots[i].busy, 1, __ATOMIC_RELAXED);
            io_prep2_pread(&iocbs[n], data_fd, slots[i].buf, BLOCK, (int64_t)(slots[i].block * BLOCK));
            iocbs[n++].data = (uint64_t)slots[i].generation << 32 | i;
        }
        if (n == 0)
            sched_yield();
        else
            submit_all(ctx, iocbs, n * sizeof(iocbs[0]));
    }
    return NULL;
}

static bool all_idle(void)
{
    for (size_t i = 0; i < READERS * DEPTH; i++) {
        if (__atomic_load_n(&slots[i].busy, __ATOMIC_ACQUIRE) != 0)
            return false;
    }
    return true;
}

/* Reaps: one through the ring, the others by io_getevents2. */
static void *reaper(void *arg)
{
    struct io_event2 events[8];

    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED) || !all_idle()) {
        struct timespec timeout = timespec_ns(20 * NSEC_PER_MSEC);
        ssize_t got;

        if ((uintptr_t)arg == 0) {
            got = (ssize_t)reap_user_space(ctx, events, sizeof(events), NULL);
            if (got == 0)
                usleep(100);
        } else {
            got = io_getevents2(ctx, sizeof(events[0]), events, sizeof(events), &timeout);
        }
        CHECK_CMP(got, >=, 0);
        for (size_t i = 0; i < (size_t)got / sizeof(events[0]); i++) {
            uint64_t slot = events[i].data & 0xffffffff;

            CHECK_CMP(slot, <, READERS * DEPTH);
            CHECK_EQ(events[i].data >> 32, slots[slot].generation);
            CHECK_EQ(events[i].res, BLOCK);
            CHECK_PATTERN(slots[slot].buf, BLOCK, slots[slot].block * BLOCK, 1);
            /* Of two events for one request, the second would find it idle, or another generation. */
            CHECK_EQ(__atomic_exchange_n(&slots[slot].busy, 0, __ATOMIC_RELEASE), 1);
            __atomic_fetch_add(&reads_done, 1, __ATOMIC_RELAXED);
        }
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[READERS + 2 + FORKERS];
    struct io_event2 events[300];
    int64_t began = now_ns();
    int n = 0;

    data_fd = temp_pattern_file(BLOCKS * BLOCK, 1, 0);
    idle_ctx = setup2(4096, 0, 1);
    submit_nops(idle_ctx, 0, 300);
    CHECK_SOON(ring_completed(idle_ctx) == 300);
    CHECK_EQ(io_ring2_overflowed(idle_ctx), 1);
    /* Smaller than what is in flight: events overflow. */
    ctx = setup2(4096, 0, 0);
    for (uintptr_t i = 0; i < READERS; i++)
        threads[n++] = thread_start(submitter, (void *)i);
    for (uintptr_t i = 0; i < 2; i++)
        threads[n++] = thread_start(reaper, (void *)i);
    for (uintptr_t i = 0; i < FORKERS; i++)
        threads[n++] = thread_start(forker, NULL);
    for (int i = READERS + 2; i < n; i++)
        thread_join(threads[i]);
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    for (int i = 0; i < READERS + 2; i++)
        thread_join(threads[i]);
    CHECK(all_idle());
    CHECK_RING_DRAINED(ctx, reads_done);
    CHECK_CMP(reads_done, >, fewer(FORKS) / 10);

    /* What waited in the other context through it all is still there, in order. */
    (void)get_events(idle_ctx, 300, events, sizeof(events));
    for (uint64_t i = 0; i < 300; i++)
        CHECK_EQ(events[i].data, i);
    CHECK_RING_DRAINED(idle_ctx, 300);
    CHECK_EQ(CALL(io_destroy2(idle_ctx)), 0);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    printf("%" PRIu64 " forks in %.1f s, %" PRIu64 " reads beside them\n", fewer(FORKS), (double)(now_ns() - began) / 1e9, reads_done);
    return 0;
}
