/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * RLIMIT_FSIZE is lowered while a thread that waits for events carries writes out itself, one after the other. A write beyond
 * the limit that is submitted after that, and that the thread carries out next, is -EFBIG in `res`, and raises no signal.
 */
#include "test.h"
#include "stress.h"
#include <signal.h>
#include <sys/resource.h>

enum { BLOCK = 512, BLOCKS = 64, DEPTH = 32, TIMES = 300, LAST = -1 };

static volatile sig_atomic_t signals;

static void on_signal(int sig)
{
    (void)sig;
    signals++;
}

static io_context2_t ctx;
static int fd;
static char block[BLOCK];
/* Of the writes beyond the limit. */
static int ended;

static void *writes(void *arg)
{
    for (int count = 0; count != LAST;) {
        struct iocb2 iocbs[DEPTH];

        for (int i = 0; i < DEPTH; i++) {
            io_prep2_pwrite(&iocbs[i], fd, block, BLOCK, i * BLOCK);
            iocbs[i].data = 0;
        }
        submit_all(ctx, iocbs, sizeof(iocbs));
        for (int own = DEPTH; own != 0;) {
            struct io_event2 events[DEPTH];
            ssize_t got = CALL(io_getevents2(ctx, (size_t)own * sizeof(events[0]), events, sizeof(events), NULL));

            CHECK_CMP(got, >, 0);
            for (size_t i = 0; i < (size_t)got / sizeof(events[0]); i++) {
                const bool beyond = events[i].data != 0;

                CHECK_EQ(events[i].res, beyond ? -EFBIG : BLOCK);
                own -= !beyond;
                if (beyond)
                    __atomic_fetch_add(&ended, 1, __ATOMIC_RELEASE);
            }
        }
        count = __atomic_load_n((int *)arg, __ATOMIC_RELAXED);
    }
    return NULL;
}

int main(void)
{
    const struct rlimit lowered = { BLOCKS * BLOCK, RLIM_INFINITY };
    struct rlimit before;
    int count = 0;

    CHECK_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
    if (before.rlim_cur != RLIM_INFINITY)
        SKIP("a file's size is limited already");
    CHECK(signal(SIGXFSZ, on_signal) != SIG_ERR);
    ctx = setup2(0, 0, 0);
    fd = temp_file(BLOCKS * BLOCK, 0);
    pthread_t thread = thread_start(writes, &count);
    for (int i = 0; i < TIMES; i++) {
        struct iocb2 iocb;

        CHECK_EQ(setrlimit(RLIMIT_FSIZE, &lowered), 0);
        io_prep2_pwrite(&iocb, fd, block, BLOCK, BLOCKS * BLOCK);
        iocb.data = 1;
        submit_one(ctx, &iocb);
        while (__atomic_load_n(&ended, __ATOMIC_ACQUIRE) == i)
            sched_yield();
        CHECK_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
        /* The thread may begin with its next writes before the limit is lowered again. */
        sched_yield();
    }
    __atomic_store_n(&count, LAST, __ATOMIC_RELAXED);
    thread_join(thread);
    CHECK_EQ(signals, 0);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
