/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A thousand reads of empty pipes are in flight, on the same context and on another. They do not delay a disk read, or a write
 * whose end an eventfd reports. When their contexts end, all of them are interrupted.
 */
#include "test.h"
#include "stress.h"
#include <poll.h>

enum { BLOCKED = 500, READS = 2000, BYTES = 4096 };

static int fd;
static char buf[BYTES];

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return x < y ? -1 : x > y;
}

static void drain(int eventfd)
{
    uint64_t count;

    CHECK_EQ(read(eventfd, &count, sizeof(count)), sizeof(count));
}

/* The median time of a read, in ns; with an eventfd, of a write. */
static int64_t transfer_some(io_context2_t ctx, int eventfd)
{
    static int64_t times[READS];

    for (int i = 0; i < READS; i++) {
        union event_room room;
        struct iocb2 iocb;
        int64_t began = now_ns();

        if (eventfd < 0)
            io_prep2_pread(&iocb, fd, buf, BYTES, (int64_t)(i % 256) * BYTES);
        else
            io_prep2_pwrite(&iocb, fd, buf, BYTES, (int64_t)(i % 256) * BYTES);
        submit_one(ctx, &iocb);
        if (eventfd >= 0) {
            struct pollfd poll_fd = { .fd = eventfd, .events = POLLIN };

            CHECK_EQ(poll(&poll_fd, 1, PATIENCE_S * 1000), 1);
            drain(eventfd);
        }
        get_one(ctx, &room.event);
        CHECK_EQ(room.event.res, BYTES);
        times[i] = now_ns() - began;
    }
    qsort(times, READS, sizeof(times[0]), compare);
    return times[READS / 2];
}

static void block(io_context2_t ctx, int pipe_end)
{
    for (int i = 0; i < BLOCKED; i++) {
        static char byte;
        static struct iovec iov = { &byte, 1 };
        struct iocb2 iocb;

        io_prep2_syscall(&iocb, SYS_readv, (uint64_t)pipe_end, (uintptr_t)&iov, 1, 0, 0, 0);
        submit_one(ctx, &iocb);
    }
}

/* The machine may have become busier: the best of some tries counts. */
static void compare_times(const char *what, int64_t free_ns, io_context2_t ctx, int eventfd)
{
    int64_t limit_ns = 5 * free_ns + 500000, blocked_ns = INT64_MAX;

    for (int tries = 0; tries < 10 && blocked_ns >= limit_ns; tries++)
        blocked_ns = transfer_some(ctx, eventfd);
    printf("a %s took %.1f us, %.1f us with %d others blocked: %.2f times as long\n", what, (double)free_ns / 1e3,
           (double)blocked_ns / 1e3, 2 * BLOCKED, (double)blocked_ns / (double)free_ns);
    /* A tick of the library's watcher is a millisecond. */
    CHECK_CMP(blocked_ns, <, limit_ns);
}

int main(void)
{
    struct io_setup2_params params = params2();
    io_context2_t ctx = NULL, other = setup2(0, 0, 0);
    int ends[2];

    params.eventfd = eventfd(0, EFD_CLOEXEC);
    CHECK(params.eventfd >= 0);
    CHECK_EQ(CALL(io_setup2(IO_SETUP2_VERSION, &params, &ctx)), 0);

    fd = temp_pattern_file(256 * BYTES, 1, 0);
    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    make_blocking(&ends[0]);
    (void)transfer_some(ctx, -1);
    int64_t free_read = transfer_some(ctx, -1);
    /* The events of reads have been counted, too. */
    drain(params.eventfd);
    (void)transfer_some(ctx, params.eventfd);
    int64_t free_write = transfer_some(ctx, params.eventfd);

    block(ctx, ends[0]);
    block(other, ends[0]);
    CHECK_SOON(count_workers_in(SYS_readv) >= 2 * BLOCKED);
    compare_times("read", free_read, ctx, -1);
    drain(params.eventfd);
    compare_times("write", free_write, ctx, params.eventfd);

    int64_t began = now_ns();
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    CHECK_EQ(CALL(io_destroy2(other)), 0);
    CHECK_CMP(now_ns() - began, <, PATIENCE_NS);
    /* None of them is left to take it. */
    CHECK_EQ(write(ends[1], "x", 1), 1);
    sleep_ms(20);
    CHECK_EQ(read(ends[0], buf, 1), 1);
    return 0;
}
