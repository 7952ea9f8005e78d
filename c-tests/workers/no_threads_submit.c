/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Without threads, the submitter carries the requests out: before io_submit2() returns, the eventfd is signalled and the ring has
 * the events, also for a program that makes no other call. The same for requests that may wait for somebody else but need not
 * wait now. Each submit tries again those that have to wait.
 */
#include "test.h"
#include "stress.h"
#include "thread_hook.h"

enum { N = 300, BLOCK = 512, SUBMITTERS = 4 };

static io_context2_t ctx;
static int told;
static int fd;

static uint64_t times_told(void)
{
    uint64_t count = 0;

    return read(told, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

static void files(void)
{
    static unsigned char block[N][BLOCK];
    struct iocb2 iocbs[N];

    for (int pass = 0; pass < 2; pass++) {
        uint64_t before = ring_completed(ctx);

        for (int i = 0; i < N; i++) {
            if (pass == 0) {
                fill_pattern(block[i], BLOCK, (uint64_t)i * BLOCK, 1);
                io_prep2_pwrite(&iocbs[i], fd, block[i], BLOCK, i * BLOCK);
            } else {
                io_prep2_pread(&iocbs[i], fd, block[i], BLOCK, i * BLOCK);
            }
        }
        submit_all(ctx, iocbs, sizeof(iocbs));
        CHECK_EQ(ring_completed(ctx), before + N);
        CHECK_CMP(times_told(), >, 0);
        if (pass == 0)
            memset(block, 0, sizeof(block));
    }
    for (int i = 0; i < N; i++)
        CHECK_PATTERN(block[i], BLOCK, (uint64_t)i * BLOCK, 1);
}

/* Each but the first waits for the one before it. */
static void chain(void)
{
    static union iocb_room records[8];
    unsigned char *at = records[0].bytes;
    uint64_t before = ring_completed(ctx);
    char text = 'x';
    int ends[2];

    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    for (int i = 0; i < 8; i++) {
        struct iocb2 *iocb = (struct iocb2 *)(void *)at;

        if (i % 2 == 0)
            io_prep2_pwrite(iocb, fd, &text, 1, i);
        else
            io_prep2_syscall(iocb, SYS_write, (uint64_t)ends[1], (uintptr_t)&text, 1, 0, 0, 0);
        if (i != 7)
            CHECK(iocb2_add_attr(iocb, IOCB_ATTR_LINK, IOCB_ATTR_F_REQUIRED, 0, NULL, 0) != NULL);
        at += iocb->bytes;
    }
    submit_all(ctx, records, (size_t)(at - records[0].bytes));
    CHECK_EQ(ring_completed(ctx), before + 8);
    CHECK_CMP(times_told(), >, 0);
    close(ends[0]);
    close(ends[1]);
}

static void pipes(void)
{
    uint64_t before = ring_completed(ctx);
    struct hold ready;
    struct hold empty;

    hold_init(&ready, 1);
    hold_release(&ready);
    submit_one(ctx, &ready.iocb);
    CHECK_EQ(ring_completed(ctx), before + 1);
    CHECK_EQ(ready.byte, 'x');
    CHECK_CMP(times_told(), >, 0);

    hold_submit(ctx, &empty, 2);
    CHECK_EQ(ring_completed(ctx), before + 1);
    /* It keeps nothing else waiting. */
    submit_nops(ctx, 10, 1);
    CHECK_EQ(ring_completed(ctx), before + 2);
    hold_release(&empty);
    submit_nops(ctx, 11, 1);
    CHECK_EQ(ring_completed(ctx), before + 4);
    CHECK_EQ(empty.byte, 'x');
    CHECK_CMP(times_told(), >, 0);
    hold_close(&ready);
    hold_close(&empty);
}

/* A write that was too large, or to a pipe without readers, raises no signal in the submitter: the program would end by one. */
static void signals(void)
{
    struct rlimit limit;
    struct iocb2 iocb;
    struct iovec iov = { .iov_base = &limit, .iov_len = 1 };
    uint64_t before = ring_completed(ctx);
    int ends[2];

    CHECK_EQ(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = 4096;
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
    io_prep2_pwrite(&iocb, fd, &limit, 1, 1 << 20);
    submit_one(ctx, &iocb);
    limit.rlim_cur = limit.rlim_max;
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    close(ends[0]);
    io_prep2_pwritev2(&iocb, ends[1], &iov, 1, -1, 0);
    submit_one(ctx, &iocb);
    CHECK_EQ(ring_completed(ctx), before + 2);
    close(ends[1]);
}

static pthread_barrier_t all_are_there;

static void *submit_many(void *arg)
{
    io_context2_t one = arg;
    struct iocb2 iocb;

    pthread_barrier_wait(&all_are_there);
    io_prep2_nop(&iocb);
    for (int i = 0; i < N; i++)
        submit_one(one, &iocb);
    return NULL;
}

/* Several at once, also where one request at a time may run. */
static void submitters(uint32_t workers)
{
    io_context2_t one = setup2(0, 0, workers);
    pthread_t threads[SUBMITTERS];

    CHECK_EQ(pthread_barrier_init(&all_are_there, NULL, SUBMITTERS), 0);
    allowed = SUBMITTERS;
    for (int i = 0; i < SUBMITTERS; i++)
        threads[i] = thread_start(submit_many, one);
    for (int i = 0; i < SUBMITTERS; i++)
        thread_join(threads[i]);
    CHECK_EQ(ring_completed(one), SUBMITTERS * N);
    CHECK_EQ(CALL(io_destroy2(one)), 0);
}

int main(void)
{
    struct io_setup2_params params = params2();

    allowed = 0;
    fd = temp_file(0, 0);
    told = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    params.eventfd = told;
    params.ring_bytes = 1 << 20;
    CHECK_EQ(CALL(io_setup2(IO_SETUP2_VERSION, &params, &ctx)), 0);
    files();
    chain();
    pipes();
    signals();
    CHECK_EQ(count_threads(), 1);
    CHECK_CMP(failures, >, 0);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    submitters(0);
    submitters(1);
    return 0;
}
