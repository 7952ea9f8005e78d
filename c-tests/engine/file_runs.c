/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Many O_DIRECT requests in flight that follow each other in a file: all data is written, and each request has one event. If
 * only some of them can be carried out (at a file size limit, at the end of the file, near a bad buffer), each request still
 * has its own result. With a thread that waits without a time limit, one that waits with a time limit, and a separate thread
 * for the events.
 */
#include "test.h"
#include "stress.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>

enum { BLOCK = 4096, DEPTH = 64, BLOCKS = 1500 };

/* How the events are taken. */
enum how { WAITS, WAITS_FOR_A_TIME, APART, HOWS };

static volatile sig_atomic_t signals;

static void on_signal(int sig)
{
    (void)sig;
    signals++;
}

static struct job {
    io_context2_t ctx;
    enum how how;
    int fd;
    bool writes;
    unsigned char *memory;
    /* The expected result of a block's request; and its buffer. */
    int64_t (*expected)(int64_t block);
    void *(*buffer)(int64_t block);
    uint64_t taken;
    struct seen seen;
} job;

static void *plain_buffer(int64_t block)
{
    return job.memory + block * BLOCK;
}

static int64_t in_full(int64_t block)
{
    (void)block;
    return BLOCK;
}

static void take(void)
{
    struct io_event2 events[DEPTH];
    struct timespec limit = timespec_ns(PATIENCE_NS);
    ssize_t got = io_getevents2(job.ctx, sizeof(events[0]), events, sizeof(events), job.how == WAITS_FOR_A_TIME ? &limit : NULL);

    CHECK_CMP(got, >, 0);
    for (size_t i = 0; i < (size_t)got / sizeof(events[0]); i++) {
        const int64_t block = (int64_t)events[i].data;

        seen_mark(&job.seen, events[i].data);
        CHECK_EQ(events[i].res, job.expected(block));
        if (!job.writes && events[i].res > 0)
            CHECK_PATTERN(plain_buffer(block), (size_t)events[i].res, (uint64_t)block * BLOCK, 1);
        __atomic_fetch_add(&job.taken, 1, __ATOMIC_RELEASE);
    }
}

static void *taker(void *arg)
{
    while (__atomic_load_n(&job.taken, __ATOMIC_RELAXED) < BLOCKS)
        take();
    return arg;
}

/* Each block of the file once, from its beginning, by so many at a time. */
static void run(int batch)
{
    pthread_t thread = pthread_self();
    uint64_t submitted = 0;

    job.ctx = setup2(0, 0, 0);
    job.taken = 0;
    seen_init(&job.seen, BLOCKS);
    if (job.how == APART)
        thread = thread_start(taker, NULL);
    while (submitted < BLOCKS) {
        struct iocb2 iocbs[DEPTH];
        int n = 0;

        for (; n < batch && submitted + (uint64_t)n < BLOCKS; n++) {
            const int64_t block = (int64_t)submitted + n;

            if (job.writes) {
                fill_pattern(plain_buffer(block), BLOCK, (uint64_t)block * BLOCK, 1);
                io_prep2_pwrite(&iocbs[n], job.fd, job.buffer(block), BLOCK, block * BLOCK);
            } else {
                io_prep2_pread(&iocbs[n], job.fd, job.buffer(block), BLOCK, block * BLOCK);
            }
            iocbs[n].data = (uint64_t)block;
        }
        submit_all(job.ctx, iocbs, (size_t)n * sizeof(iocbs[0]));
        submitted += (uint64_t)n;
        while (submitted - __atomic_load_n(&job.taken, __ATOMIC_ACQUIRE) > (uint64_t)(DEPTH - batch))
            if (job.how == APART)
                sched_yield();
            else
                take();
    }
    while (job.how != APART && job.taken < BLOCKS)
        take();
    if (job.how == APART)
        thread_join(thread);
    seen_check_all(&job.seen);
    seen_free(&job.seen);
    CHECK_EQ(CALL(io_destroy2(job.ctx)), 0);
}

static void check_file(int64_t blocks)
{
    struct stat st;

    CHECK_EQ(fstat(job.fd, &st), 0);
    CHECK_EQ(st.st_size, blocks * BLOCK);
    for (int64_t block = 0; block < blocks; block++) {
        CHECK_EQ(pread(job.fd, job.memory, BLOCK, block * BLOCK), BLOCK);
        CHECK_PATTERN(job.memory, BLOCK, (uint64_t)block * BLOCK, 1);
    }
}

/* ---- What cannot all be carried out ------------------------------------------------------------ */

enum { LIMIT = 1203 };

static int64_t up_to_limit(int64_t block)
{
    return block < LIMIT ? BLOCK : -EFBIG;
}

static bool is_bad(int64_t block)
{
    return block > 200 && block % 37 == 5;
}

static void *some_bad_buffers(int64_t block)
{
    return is_bad(block) ? (void *)8192 : plain_buffer(block);
}

static int64_t but_for_bad_buffers(int64_t block)
{
    return is_bad(block) ? -EFAULT : BLOCK;
}

enum { END = 1290, MORE = 1536 };

static int64_t up_to_end(int64_t block)
{
    return block < END ? BLOCK : block == END ? MORE : 0;
}

int main(void)
{
    const struct rlimit limit = { (rlim_t)LIMIT * BLOCK, RLIM_INFINITY };
    struct rlimit before;

    CHECK_EQ(posix_memalign((void **)&job.memory, BLOCK, (size_t)BLOCKS * BLOCK), 0);
    CHECK(signal(SIGXFSZ, on_signal) != SIG_ERR);
    CHECK_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
    CHECK_EQ(before.rlim_max, RLIM_INFINITY);
    for (job.how = 0; job.how < HOWS; job.how++)
        for (int batch = 1; batch <= DEPTH / 2; batch *= 32) {
            job.buffer = plain_buffer;
            job.expected = in_full;
            job.writes = true;
            job.fd = temp_file(0, O_DIRECT);
            run(batch);
            check_file(BLOCKS);
            /* What it is read by knows that it waits. */
            job.writes = false;
            run(batch);
            job.buffer = some_bad_buffers;
            job.expected = but_for_bad_buffers;
            run(batch);
            job.buffer = plain_buffer;
            job.expected = up_to_end;
            CHECK_EQ(ftruncate(job.fd, END * BLOCK + MORE), 0);
            run(batch);

            job.writes = true;
            job.expected = up_to_limit;
            CHECK_EQ(ftruncate(job.fd, 0), 0);
            CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
            run(batch);
            CHECK_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
            check_file(LIMIT);
            CHECK_EQ(signals, 0);

            job.expected = but_for_bad_buffers;
            job.buffer = some_bad_buffers;
            CHECK_EQ(ftruncate(job.fd, 0), 0);
            run(batch);
            CHECK_EQ(close(job.fd), 0);
        }
    free(job.memory);
    return 0;
}
