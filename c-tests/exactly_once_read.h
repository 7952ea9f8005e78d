/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* For exactly_once_read.c and long_exactly_once_read.c, which define TOTAL. */
#include "test.h"
#include "stress.h"

#define SUBMITTERS 8
#define REAPERS 8
#define SLOTS 64 /* reads in flight, per submitter */
#define BATCH 16
#define BLOCK 512
#define BLOCKS 16384

/* A buffer; whoever submits takes it, and whoever reaps gives it back. */
struct slot {
    unsigned char buf[BLOCK];
    uint64_t block;
    uint64_t number;
    uint32_t busy;
};

static io_context2_t ctx;
static int fd;
static unsigned char *contents;
static struct seen seen;
static struct slot slots[SUBMITTERS * SLOTS];
static uint64_t next_number;
static uint64_t through_ring;
static uint64_t by_call;
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

static void *user_space_reaper(void *arg)
{
    struct io_event2 events[16];

    (void)arg;
    while (seen_count(&seen) < TOTAL) {
        ssize_t got = io_ring2_reap(ctx, events, sizeof(events));

        if (got > 0) {
            take(events, (size_t)got, &through_ring);
        } else if (got == 0 && io_ring2_overflowed(ctx)) {
            got = io_getevents2(ctx, 0, events, sizeof(events), NULL);
            CHECK_CMP(got, >=, 0);
            take(events, (size_t)got, &by_call);
        } else {
            CHECK_EQ(got, 0);
            usleep(50);
        }
    }
    return NULL;
}

static void *calling_reaper(void *arg)
{
    size_t min_bytes = (uintptr_t)arg * sizeof(struct io_event2);
    struct io_event2 events[16];

    while (seen_count(&seen) < TOTAL) {
        struct timespec timeout = timespec_ns(20 * NSEC_PER_MSEC);
        ssize_t got = io_getevents2(ctx, min_bytes, events, sizeof(events), &timeout);

        CHECK_CMP(got, >=, 0);
        take(events, (size_t)got, &by_call);
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[SUBMITTERS + REAPERS];
    int64_t began;
    int n = 0;

    CHECK_EQ(TOTAL % BATCH, 0);
    fd = temp_file(BLOCKS * BLOCK, 0);
    contents = malloc(BLOCKS * BLOCK);
    CHECK(contents != NULL);
    fill_pattern(contents, BLOCKS * BLOCK, 0, 1);
    CHECK_EQ(pwrite(fd, contents, BLOCKS * BLOCK, 0), BLOCKS * BLOCK);
    seen_init(&seen, TOTAL);
    ctx = setup2(4096, 0, 0);
    began = now_ns();
    for (uintptr_t i = 0; i < REAPERS / 2; i++) {
        threads[n++] = thread_start(user_space_reaper, NULL);
        threads[n++] = thread_start(calling_reaper, (void *)(1 + i * 5));
    }
    for (uintptr_t i = 0; i < SUBMITTERS; i++)
        threads[n++] = thread_start(submitter, (void *)i);
    for (int i = 0; i < n; i++)
        thread_join(threads[i]);
    seen_check_all(&seen);
    CHECK_EQ(seen_count(&seen), TOTAL);
    CHECK_EQ(through_ring + by_call, TOTAL);
    CHECK_EQ(bytes_read, (uint64_t)TOTAL * BLOCK);
    CHECK_RING_DRAINED(ctx, TOTAL);
    CHECK_CMP(through_ring, >, 0);
    CHECK_CMP(by_call, >, 0);
    printf("%" PRIu64 " reads in %.1f s; %" PRIu64 " taken out of the ring without a call, %" PRIu64
           " by io_getevents2; %" PRIu64 " overflowed\n",
           (uint64_t)TOTAL, (double)(now_ns() - began) / 1e9, through_ring, by_call, ring_overflowed(ctx));
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
