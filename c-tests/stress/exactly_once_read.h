/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* For exactly_once_read.c and long_exactly_once_read.c, which define MOST. */
#define EVENTS_AT_ONCE 16
#define WAIT_MS 20
#define BATCH 16
#define TOTAL (fewer(MOST / BATCH) * BATCH)
#include "exactly_once.h"

#define SLOTS 64 /* reads in flight, per submitter */
#define BLOCK 512
#define BLOCKS 16384

/* A buffer; a submitter takes it, and a reaper gives it back. */
struct slot {
    unsigned char buf[BLOCK];
    uint64_t block;
    uint64_t number;
    uint32_t busy;
};

static int fd;
static unsigned char *contents;
static struct slot slots[SUBMITTERS * SLOTS];
static uint64_t bytes_read;

static void *submitter(void *arg)
{
    size_t first = (uintptr_t)arg * SLOTS;
    size_t at = 0;
    uint64_t rng = first + 1;

    for (;;) {
        uint64_t number = __atomic_fetch_add(&next_number, BATCH, __ATOMIC_RELAXED);
        struct iocb2 iocbs[BATCH];

        if (number >= TOTAL)
            return NULL;
        for (size_t i = 0; i < BATCH; i++) {
            struct slot *slot = &slots[first + at];

            /* They come back in any order, but all come back. */
            while (__atomic_load_n(&slot->busy, __ATOMIC_ACQUIRE) != 0)
                usleep(50);
            slot->busy = 1;
            slot->block = rng_below(&rng, BLOCKS);
            slot->number = number + i;
            /* Not what the read will bring. */
            memset(slot->buf, (int)~contents[slot->block * BLOCK], BLOCK);
            io_prep2_pread(&iocbs[i], fd, slot->buf, BLOCK, (int64_t)(slot->block * BLOCK));
            iocbs[i].data = (number + i) << 16 | (first + at);
            at = (at + 1) % SLOTS;
        }
        submit_all(ctx, iocbs, sizeof(iocbs));
    }
}

static void take(const struct io_event2 *events, size_t got, uint64_t *counter)
{
    for (size_t i = 0; i < got / sizeof(*events); i++) {
        size_t index = events[i].data & 0xffff;
        struct slot *slot = &slots[index];

        CHECK_EQ(events[i].bytes, sizeof(*events));
        CHECK_EQ(events[i].res, BLOCK);
        CHECK_CMP(index, <, SUBMITTERS * SLOTS);
        seen_mark(&seen, events[i].data >> 16);
        CHECK_EQ(slot->number, events[i].data >> 16);
        if (memcmp(slot->buf, contents + slot->block * BLOCK, BLOCK) != 0)
            FAIL("request %" PRIu64 ": the buffer does not hold block %" PRIu64, slot->number, slot->block);
        __atomic_fetch_add(&bytes_read, (uint64_t)events[i].res, __ATOMIC_RELAXED);
        __atomic_store_n(&slot->busy, 0, __ATOMIC_RELEASE);
    }
    __atomic_fetch_add(counter, got / sizeof(*events), __ATOMIC_RELAXED);
}

int main(void)
{
    int64_t began;

    CHECK_EQ(TOTAL % BATCH, 0);
    fd = temp_file(BLOCKS * BLOCK, 0);
    contents = malloc(BLOCKS * BLOCK);
    CHECK(contents != NULL);
    fill_pattern(contents, BLOCKS * BLOCK, 0, 1);
    CHECK_EQ(pwrite(fd, contents, BLOCKS * BLOCK, 0), BLOCKS * BLOCK);
    seen_init(&seen, TOTAL);
    ctx = setup2(4096, 0, 0);
    began = now_ns();
    run_all(submitter);
    CHECK_EQ(bytes_read, (uint64_t)TOTAL * BLOCK);
    report("reads", began);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
