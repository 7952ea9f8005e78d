/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A file whose behaviour changes is followed within some hundred requests, in both directions. If its requests complete without
 * waiting, the caller that waits for them carries them out. If they wait for a device, the kernel or a worker does. A
 * descriptor that names zram, then a loop device, then zram; and a device read through the page cache, from which its pages are
 * dropped and come back. Counted in requests, by IOCB_ATTR_ROUTE: it prints after how many requests most take the new route.
 */
/* needs: root */
#include "test.h"
#include "stress.h"
#include "device.h"

enum { BLOCK = 4096, DEPTH = 8, BYTES = 16 << 20, BLOCKS = BYTES / BLOCK, WINDOW = 64, ROUNDS = 3 };
/* Several times as many as on a quiet machine: a busy one delays requests as a device would. */
enum { LIMIT = 5000 };

static io_context2_t ctx;
static unsigned char *memory;
static uint64_t rng = 1;

static bool by_caller(struct iocb_route route)
{
    return route.route == IOCB_ROUTE_INLINE;
}

static bool by_another(struct iocb_route route)
{
    return !by_caller(route);
}

/* With AIO2_ENGINE=threads, workers do what else is the kernel's. */
static bool by_kernel(struct iocb_route route)
{
    const char *engine = getenv("AIO2_ENGINE");

    return engine != NULL && strcmp(engine, "threads") == 0 ? by_another(route) : is_kernels(route);
}

/* DEPTH reads of random blocks. Returns the number of those that went that way. */
static int reads(int fd, bool cold, bool (*way)(struct iocb_route))
{
    static union routed iocbs[DEPTH];
    static union routed_event events[DEPTH];
    int count = 0;

    if (cold)
        CHECK_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    for (int i = 0; i < DEPTH; i++) {
        io_prep2_pread(&iocbs[i].iocb, fd, memory + i * BLOCK, BLOCK, (int64_t)rng_below(&rng, BLOCKS) * BLOCK);
        ask_route(&iocbs[i].iocb);
    }
    submit_all(ctx, iocbs, sizeof(iocbs));
    for (int left = DEPTH; left != 0;) {
        ssize_t got = io_getevents2(ctx, sizeof(events[0]), &events[0].event, sizeof(events), NULL);

        CHECK_CMP(got, >, 0);
        for (size_t i = 0; i < (size_t)got / sizeof(events[0]); i++, left--) {
            CHECK_EQ(events[i].event.res, BLOCK);
            count += way(route_of(&events[i].event));
        }
    }
    return count;
}

/* Reads until most of a window of requests have gone that way. There were at most LIMIT before it, unless it is the first phase. */
static void follows(const char *what, int fd, bool cold, bool (*way)(struct iocb_route), bool first)
{
    int counts[WINDOW / DEPTH] = { 0 }, sum = 0, requests = 0;

    for (int i = 0; sum < WINDOW * 3 / 4; i++, requests += DEPTH) {
        if (requests > LIMIT + WINDOW && !first)
            FAIL("%s: after %d requests, %d of %d go the new way", what, requests, sum, WINDOW);
        sum -= counts[i % (WINDOW / DEPTH)];
        counts[i % (WINDOW / DEPTH)] = reads(fd, cold, way);
        sum += counts[i % (WINDOW / DEPTH)];
    }
    if (!first)
        printf("%s: %d requests\n", what, requests > WINDOW ? requests - WINDOW : 0);
}

/* All of it is in the page cache afterwards. */
static void warm(int fd)
{
    for (int i = 0; i < BLOCKS; i++)
        CHECK_EQ(pread(fd, memory, BLOCK, (off_t)i * BLOCK), BLOCK);
}

/* Goes on like that for a while. */
static void settle(int fd, bool cold)
{
    for (int i = 0; i < 2000; i++)
        (void)reads(fd, cold, by_caller);
}

int main(void)
{
    void *at = NULL;
    int file = temp_pattern_file(BYTES, 7, 0);
    int loop = loop_open(file, O_DIRECT), zram = zram_open(BYTES, O_DIRECT);

    CHECK_EQ(posix_memalign(&at, BLOCK, DEPTH * BLOCK), 0);
    memory = at;
    for (int i = 0; i < BLOCKS; i++) {
        fill_pattern(memory, BLOCK, (uint64_t)i * BLOCK, 7);
        CHECK_EQ(pwrite(zram, memory, BLOCK, (off_t)i * BLOCK), BLOCK);
    }
    for (int round = 0; round < ROUNDS; round++) {
        int fd = CALL(dup(zram));

        ctx = setup2(0, 0, 0);
        follows("zram", fd, false, by_caller, true);
        settle(fd, false);
        CHECK_EQ(dup2(loop, fd), fd);
        follows("zram, then loop", fd, false, by_kernel, false);
        settle(fd, false);
        CHECK_EQ(dup2(zram, fd), fd);
        follows("loop, then zram", fd, false, by_caller, false);
        close(fd);
        CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    }
    for (int round = 0; round < ROUNDS; round++) {
        int fd = loop_open(file, 0);

        ctx = setup2(0, 0, 0);
        warm(fd);
        follows("in the page cache", fd, false, by_caller, true);
        settle(fd, false);
        follows("in the page cache, then dropped", fd, true, by_another, false);
        settle(fd, true);
        warm(fd);
        follows("dropped, then in the page cache", fd, false, by_caller, false);
        close(fd);
        CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    }
    return 0;
}
