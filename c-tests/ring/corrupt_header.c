/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The program writes garbage into its own ring: each word of the header in turn, with values that are likely to do harm, then
 * all of the header and the data area at random while I/O runs. Events of that context may be lost (-EIO is allowed). But there
 * is no crash, no hang, and no event beyond the caller's buffer; the other context is not disturbed, and io_destroy2 works.
 */
#include "test.h"
#include "stress.h"

#define RANDOM_SECONDS 6
#define BLOCK 512
#define GUARD 0xa5

/* ---- The other context: reads a file and checks what it gets ---------------------------------- */

static bool stop_other;
static uint64_t other_reads;

static void *other(void *arg)
{
    enum { DEPTH = 16 };
    static unsigned char bufs[DEPTH][BLOCK];
    io_context2_t ctx = setup2(4096, 0, 0);
    int fd = temp_pattern_file(DEPTH * BLOCK, 3, 0);
    struct iocb2 iocbs[DEPTH];
    struct io_event2 events[DEPTH];

    (void)arg;
    while (!__atomic_load_n(&stop_other, __ATOMIC_RELAXED)) {
        memset(bufs, 0, sizeof(bufs));
        for (size_t i = 0; i < DEPTH; i++) {
            io_prep2_pread(&iocbs[i], fd, bufs[i], BLOCK, (int64_t)(i * BLOCK));
            iocbs[i].data = i;
        }
        submit_all(ctx, iocbs, sizeof(iocbs));
        (void)get_events(ctx, DEPTH, events, sizeof(events));
        for (size_t i = 0; i < DEPTH; i++) {
            CHECK_EQ(events[i].res, BLOCK);
            CHECK_PATTERN(bufs[events[i].data], BLOCK, events[i].data * BLOCK, 3);
        }
        __atomic_fetch_add(&other_reads, DEPTH, __ATOMIC_RELAXED);
    }
    CHECK_RING_DRAINED(ctx, other_reads);
    CHECK_EQ(io_destroy2(ctx), 0);
    close(fd);
    return NULL;
}

/* ---- Calls on the damaged context ------------------------------------------------------------- */

/* Gets what there is; fails if the call writes past its buffer or gives an undocumented answer. */
static ssize_t get_some(io_context2_t ctx, size_t min_bytes, size_t nbytes, int64_t timeout_ns)
{
    _Alignas(8) unsigned char room[4096 + 64];
    struct timespec timeout = timespec_ns(timeout_ns);
    int64_t began = now_ns();
    ssize_t got;

    CHECK_CMP(nbytes, <=, 4096);
    memset(room + nbytes, GUARD, 64);
    got = io_getevents2(ctx, min_bytes, (struct io_event2 *)(void *)room, nbytes, &timeout);
    CHECK_CMP(now_ns() - began, <, timeout_ns + PATIENCE_NS);
    for (size_t i = 0; i < 64; i++)
        CHECK_EQ(room[nbytes + i], GUARD);
    if (got < 0)
        CHECK(got == -EIO || got == -ENOBUFS);
    else
        CHECK_CMP(got, <=, nbytes);
    return got;
}

static void submit_some(io_context2_t ctx, uint64_t n)
{
    struct iocb2 iocb;
    int refused = 0;

    for (uint64_t i = 0; i < n; i++) {
        ssize_t got;

        io_prep2_nop(&iocb);
        iocb.data = i;
        got = io_submit2(ctx, &iocb, sizeof(iocb));
        if (got == -EAGAIN || got == -EIO) {
            /* Full, or given up: it may be either for good. */
            if (++refused > 100)
                return;
            sched_yield();
            continue;
        }
        CHECK_EQ(got, sizeof(iocb));
    }
}

/* ---- One word at a time ----------------------------------------------------------------------- */

static void each_word(void)
{
    static const uint32_t values[] = {
        0, 1, 7, 8, 24, 4095, 4096, 4104, 0x7fffffff, 0x80000000, 0xfffffff8, 0xffffffff,
    };
    size_t words = sizeof(struct io_ring2) / sizeof(uint32_t) + 2;

    for (size_t word = 0; word < words; word++) {
        for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
            for (int relative = 0; relative < 2; relative++) {
                io_context2_t ctx = setup2(4096, 0, 1);
                volatile uint32_t *at = (volatile uint32_t *)(void *)ctx + word;

                submit_some(ctx, 10);
                /* Some before, some on the list, some behind. */
                (void)get_some(ctx, 24, 48, 10 * NSEC_PER_MSEC);
                *at = values[i] + (relative ? *at : 0);
                submit_some(ctx, 300);
                for (int tries = 0; tries < 8; tries++) {
                    (void)get_some(ctx, 0, 4096, 0);
                    (void)get_some(ctx, 24, 240, 1000);
                }
                *at = values[i] + (relative ? *at : 0);
                submit_some(ctx, 3);
                (void)get_some(ctx, 24, 24, 1000);
                (void)io_cancel2(ctx, 1);
                CHECK_EQ(CALL(io_destroy2(ctx)), 0);
            }
        }
    }
}

/* ---- At random, while I/O runs ---------------------------------------------------------------- */

static io_context2_t victim;
static bool stop_submitters;
static bool stop_scribbler;

static void *scribbler(void *arg)
{
    uint64_t rng = (uint64_t)(uintptr_t)arg;
    volatile uint32_t *words = (volatile uint32_t *)(void *)victim;
    /* As it was at first: the header that is read here may be garbage. */
    size_t all = (4096 + 4096) / sizeof(uint32_t);
    size_t header = sizeof(struct io_ring2) / sizeof(uint32_t);

    while (!__atomic_load_n(&stop_scribbler, __ATOMIC_RELAXED)) {
        size_t word = rng_below(&rng, 2) == 0 ? rng_below(&rng, header) : rng_below(&rng, all);

        switch (rng_below(&rng, 4)) {
        case 0:
            words[word] = (uint32_t)rng_next(&rng);
            break;
        case 1:
            words[word] += (uint32_t)(8 * rng_below(&rng, 1000));
            break;
        case 2:
            words[word] = (uint32_t)rng_below(&rng, 5000);
            break;
        default:
            /* head, as if much had been reaped, or nothing. */
            words[32] = (uint32_t)(rng_below(&rng, 2) == 0 ? words[16] : words[16] - 8 * rng_below(&rng, 600));
        }
        if (rng_below(&rng, 64) == 0)
            sched_yield();
    }
    return NULL;
}

static void *victim_submitter(void *arg)
{
    (void)arg;
    while (!__atomic_load_n(&stop_submitters, __ATOMIC_RELAXED)) {
        submit_some(victim, 100);
        usleep(200);
    }
    return NULL;
}

static void *victim_reaper(void *arg)
{
    uint64_t rng = (uint64_t)(uintptr_t)arg;

    while (!__atomic_load_n(&stop_submitters, __ATOMIC_RELAXED)) {
        size_t nbytes = 24 + 8 * rng_below(&rng, 500);

        (void)get_some(victim, rng_below(&rng, 2) == 0 ? 0 : 24, nbytes, (int64_t)rng_below(&rng, 1000000));
    }
    return NULL;
}

static void at_random(uint64_t seed)
{
    pthread_t threads[6];

    victim = setup2(4096, 1000, 0);
    CHECK_EQ(victim->header_bytes, 4096);
    CHECK_EQ(offsetof(struct io_ring2, tail), 16 * sizeof(uint32_t));
    CHECK_EQ(offsetof(struct io_ring2, head), 32 * sizeof(uint32_t));
    stop_submitters = false;
    stop_scribbler = false;
    threads[0] = thread_start(scribbler, (void *)(uintptr_t)(seed + 1));
    threads[1] = thread_start(victim_submitter, NULL);
    threads[2] = thread_start(victim_submitter, NULL);
    threads[3] = thread_start(victim_reaper, (void *)(uintptr_t)(seed + 2));
    threads[4] = thread_start(victim_reaper, (void *)(uintptr_t)(seed + 3));
    sleep_ms(1000 * RANDOM_SECONDS / 3);
    __atomic_store_n(&stop_submitters, true, __ATOMIC_RELAXED);
    for (int i = 1; i < 5; i++)
        thread_join(threads[i]);
    /* The scribbler goes on until just before the end: after it, its memory is gone. */
    __atomic_store_n(&stop_scribbler, true, __ATOMIC_RELAXED);
    thread_join(threads[0]);
    CHECK_EQ(CALL(io_destroy2(victim)), 0);
}

int main(void)
{
    io_context2_t ctx;
    union event_room room;
    pthread_t thread = thread_start(other, NULL);
    int descriptors;

    CHECK_SOON(__atomic_load_n(&other_reads, __ATOMIC_RELAXED) != 0);
    descriptors = count_descriptors();
    each_word();
    for (uint64_t round = 0; round < 3; round++)
        at_random(round * 1000);
    CHECK_EQ(count_descriptors(), descriptors);
    __atomic_store_n(&stop_other, true, __ATOMIC_RELAXED);
    thread_join(thread);
    CHECK_CMP(other_reads, >, 1000);

    /* And all is well with a new one. */
    ctx = setup2(4096, 0, 0);
    submit_nops(ctx, 1, 1);
    get_one(ctx, &room);
    CHECK_EQ(room.event.data, 1);
    CHECK_RING_DRAINED(ctx, 1);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
