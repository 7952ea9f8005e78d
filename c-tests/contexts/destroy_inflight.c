/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * io_destroy2 with requests in flight: it waits for running requests, and cancels queued ones, which are not carried out.
 * Nothing touches the program's buffers afterwards, and no descriptor and no mapping stays.
 */
#include "test.h"
#include "stress.h"

#define QUEUED 1000
#define BLOCK 4096

static io_context2_t ctx;
static int destroy_result;
static int64_t destroyed_at;

static void *destroyer(void *arg)
{
    (void)arg;
    destroy_result = io_destroy2(ctx);
    __atomic_store_n(&destroyed_at, now_ns(), __ATOMIC_RELEASE);
    return NULL;
}

/* One request runs, blocked; a thousand writes wait behind it. */
static void running_and_queued(void)
{
    static char block[BLOCK];
    int fd = temp_file(QUEUED * BLOCK, 0);
    struct iocb2 iocb;
    struct hard_hold hold;
    pthread_t thread;
    int64_t released_at;
    int descriptors;
    char *found;

    memset(block, 'x', sizeof(block));
    descriptors = count_descriptors();
    ctx = setup2(0, 0, 1);
    hard_hold_submit(ctx, &hold, 1);
    hard_hold_wait_running(1);
    for (int i = 0; i < QUEUED; i++) {
        io_prep2_pwrite(&iocb, fd, block, BLOCK, (int64_t)i * BLOCK);
        submit_one(ctx, &iocb);
    }
    destroyed_at = 0;
    thread = thread_start(destroyer, NULL);
    /* It waits for the read that runs, and the handle is dead meanwhile. */
    CHECK_SOON(io_submit2(ctx, NULL, 0) == -EINVAL);
    CHECK_EQ(CALL(io_submit2(ctx, &iocb, sizeof(iocb))), -EINVAL);
    CHECK_EQ(CALL(io_getevents2(ctx, 0, NULL, 0, NULL)), -EINVAL);
    CHECK_EQ(CALL(io_cancel2(ctx, 1)), -EINVAL);
    CHECK_EQ(CALL(io_ring_fd2(ctx)), -EINVAL);
    CHECK_EQ(CALL(io_destroy2(ctx)), -EINVAL);
    sleep_ms(100);
    CHECK_EQ(__atomic_load_n(&destroyed_at, __ATOMIC_ACQUIRE), 0);
    released_at = now_ns();
    hard_hold_release(&hold);
    thread_join(thread);
    CHECK_EQ(destroy_result, 0);
    CHECK_CMP(destroyed_at, >=, released_at);
    CHECK_CMP(destroyed_at - released_at, <, PATIENCE_NS);
    /* The read ended before io_destroy2 returned, and no write was made. */
    CHECK_EQ(hold.page[0], 'x');
    hard_hold_close(&hold);
    CHECK_EQ(count_descriptors(), descriptors);
    found = calloc(QUEUED, BLOCK);
    CHECK(found != NULL);
    CHECK_EQ(pread(fd, found, QUEUED * BLOCK, 0), QUEUED * BLOCK);
    for (int i = 0; i < QUEUED * BLOCK; i++)
        CHECK_EQ(found[i], 0);
    free(found);
    close(fd);
}

/*
 * Reads into memory that is unmapped as soon as io_destroy2 has returned: a request still carried out
 * afterwards would read into whatever is there then, which shows.
 */
static void busy(uint64_t *rng)
{
    size_t size = 256 * BLOCK;
    int fd = temp_pattern_file(size, 1, 0);
    int descriptors = count_descriptors();

    for (int round = 0; round < 300; round++) {
        unsigned char *buf = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        unsigned char *again;
        uint64_t n = rng_below(rng, 256);
        struct iocb2 iocbs[256];

        CHECK(buf != MAP_FAILED);
        ctx = setup2(4096, 0, (uint32_t)rng_below(rng, 4));
        for (uint64_t i = 0; i < n; i++) {
            switch (rng_below(rng, 4)) {
            case 0:
                io_prep2_nop(&iocbs[i]);
                break;
            case 1:
                io_prep2_fdatasync(&iocbs[i], fd);
                break;
            default:
                io_prep2_pread(&iocbs[i], fd, buf + i * BLOCK, BLOCK, (int64_t)i * BLOCK);
            }
        }
        submit_all(ctx, iocbs, n * sizeof(iocbs[0]));
        if (rng_below(rng, 2) == 0)
            sched_yield();
        CHECK_EQ(CALL(io_destroy2(ctx)), 0);
        CHECK_EQ(munmap(buf, size), 0);
        again = mmap(buf, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        CHECK(again == buf);
        if (round % 50 == 0)
            sleep_ms(20);
        for (size_t i = 0; i < size; i += 512)
            CHECK_EQ(again[i], 0);
        CHECK_EQ(munmap(again, size), 0);
    }
    CHECK_EQ(count_descriptors(), descriptors);
    close(fd);
}

/* The requests that the destruction gave up do not disturb another context. */
static void others(uint64_t *rng)
{
    io_context2_t other = setup2(4096, 0, 0);
    uint64_t n = 0;

    for (int round = 0; round < 200; round++) {
        struct io_event2 events[50];

        ctx = setup2(4096, 0, 0);
        submit_nops(ctx, 0, rng_below(rng, 1000));
        submit_nops(other, n, 50);
        n += 50;
        CHECK_EQ(CALL(io_destroy2(ctx)), 0);
        (void)get_events(other, 50, events, sizeof(events));
    }
    CHECK_RING_DRAINED(other, n);
    CHECK_EQ(CALL(io_destroy2(other)), 0);
}

int main(void)
{
    uint64_t rng = 1;

    running_and_queued();
    busy(&rng);
    others(&rng);
    return 0;
}
