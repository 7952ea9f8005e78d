/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * One thread submits O_DIRECT reads, another sleeps in io_getevents2() for their events: the submitter hands them over to the
 * kernel's AIO, and the other thread sleeps there. Every read gets one event, with its data. So do other requests in between, for
 * which another thread must wake the sleeper, and reads that the kernel gives back because a write would make it wait.
 */
/* needs: root */
#include "test.h"
#include "stress.h"
#include "device.h"
#include <stdatomic.h>

#define BLOCK 4096
#define BLOCKS 2048
#define DEPTH 32
#define TOTAL 4000

static io_context2_t ctx;
static int fd, also;
static unsigned char *memory;
static uint64_t offsets[DEPTH];
static atomic_uint free_slots;
static atomic_int outstanding;
static struct seen seen;
static const struct timespec *patience;

/* Beside reads, some are no-ops. */
static bool mixed;

static bool is_nop(uint64_t number)
{
    return mixed && number % 16 == 7;
}

/* The number of a request has its slot in the lower bits. */
static void *gets_events(void *arg)
{
    uint64_t total = *(const uint64_t *)arg;

    while (seen_count(&seen) < total) {
        struct io_event2 events[8];
        ssize_t n = io_getevents2(ctx, sizeof(events[0]), events, sizeof(events), patience);

        CHECK_CMP(n, >=, 0);
        for (size_t i = 0; i < (size_t)n / sizeof(events[0]); i++) {
            uint64_t number = events[i].data / DEPTH, slot = events[i].data % DEPTH, word;

            seen_mark(&seen, number);
            if (is_nop(number)) {
                CHECK_EQ(events[i].res, 0);
            } else {
                CHECK_EQ(events[i].res, BLOCK);
                memcpy(&word, memory + slot * BLOCK + 8, sizeof(word));
                CHECK_EQ(word, offsets[slot]);
            }
            atomic_fetch_or(&free_slots, 1u << slot);
            atomic_fetch_sub(&outstanding, 1);
        }
    }
    return NULL;
}

static void run(int depth, int batch)
{
    const uint64_t total = fewer(TOTAL);
    uint64_t rng = (uint64_t)depth;
    pthread_t other;

    ctx = setup2(65536, 0, 0);
    seen_init(&seen, total);
    free_slots = ~0u;
    outstanding = 0;
    CHECK_EQ(pthread_create(&other, NULL, gets_events, (void *)(uintptr_t)&total), 0);
    for (uint64_t number = 0; number < total;) {
        struct iocb2 iocbs[DEPTH];
        int n = 0;

        while (atomic_load(&outstanding) > depth - 1)
            sched_yield();
        for (; n < batch && n < depth - atomic_load(&outstanding) && number < total; n++, number++) {
            unsigned slot = (unsigned)__builtin_ctz(atomic_load(&free_slots));

            atomic_fetch_and(&free_slots, ~(1u << slot));
            offsets[slot] = rng_below(&rng, BLOCKS);
            memset(memory + slot * BLOCK, 0xff, BLOCK);
            if (is_nop(number))
                io_prep2_nop(&iocbs[n]);
            else
                io_prep2_pread(&iocbs[n], fd, memory + slot * BLOCK, BLOCK, (int64_t)(offsets[slot] * BLOCK));
            iocbs[n].data = number * DEPTH + slot;
        }
        atomic_fetch_add(&outstanding, n);
        CHECK_EQ(io_submit2(ctx, iocbs, (size_t)n * sizeof(iocbs[0])), (ssize_t)((size_t)n * sizeof(iocbs[0])));
        if (mixed && number % 64 == 5) {
            uint64_t block[BLOCK / 8];

            for (size_t i = 0; i < BLOCK / 8; i++)
                block[i] = number % BLOCKS;
            CHECK_EQ(pwrite(also, block, BLOCK, (off_t)(number % BLOCKS * BLOCK)), BLOCK);
        }
    }
    CHECK_EQ(pthread_join(other, NULL), 0);
    seen_check_all(&seen);
    CHECK_EQ(io_destroy2(ctx), 0);
}

static void runs(void)
{
    static const struct timespec some = { 0, 100000000 };

    for (int i = 0; i < 2; i++) {
        patience = i == 0 ? NULL : &some;
        mixed = false;
        run(1, 1);
        run(4, 1);
        run(DEPTH, 8);
        mixed = true;
        run(4, 2);
    }
}

int main(void)
{
    char path[PATH_MAX];
    void *at;

    CHECK_EQ(posix_memalign(&at, 4096, (size_t)DEPTH * BLOCK), 0);
    memory = at;
    also = temp_file((size_t)BLOCKS * BLOCK, 0);
    for (uint64_t i = 0; i < BLOCKS; i++) {
        uint64_t block[BLOCK / 8];

        for (size_t j = 0; j < BLOCK / 8; j++)
            block[j] = i;
        CHECK_EQ(pwrite(also, block, BLOCK, (off_t)(i * BLOCK)), BLOCK);
    }
    CHECK_EQ(fsync(also), 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", also);
    fd = open(path, O_RDWR | O_DIRECT);
    CHECK_CMP(fd, >=, 0);
    runs();
    fd = loop_open(fd, O_DIRECT);
    runs();
    return 0;
}
