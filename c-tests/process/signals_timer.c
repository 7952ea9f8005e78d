/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A program with an interval timer at 1 kHz does I/O: its SIGALRM handler runs in its own thread only, never in a worker. No
 * write and no read is lost, shortened or interrupted. -EINTR comes only when it is due.
 */
#include "test.h"
#include "stress.h"
#include <sys/time.h>

#define BLOCK 1024
#define DEPTH 64
#define MSEC 4000
#define LEAST_TICKS 400

static pid_t own;
static volatile sig_atomic_t foreign;
static uint64_t ticks;
static int64_t end;

/* It takes the place of the time limit's handler, and its task. */
static void on_tick(int sig)
{
    int saved = errno;
    pid_t tid = (pid_t)syscall(SYS_gettid);

    (void)sig;
    __atomic_fetch_add(&ticks, 1, __ATOMIC_RELAXED);
    if (tid != own)
        foreign = tid;
    if (now_ns() > end + 100 * NSEC_PER_SEC)
        _exit(1);
    errno = saved;
}

int main(void)
{
    static unsigned char bufs[DEPTH][BLOCK];
    static struct iocb2 iocbs[DEPTH];
    struct io_event2 events[DEPTH];
    struct itimerval tick = { { 0, 1000 }, { 0, 1000 } };
    struct itimerval off = { { 0, 0 }, { 0, 0 } };
    struct sigaction action;
    sigset_t alarm_set;
    uint64_t interrupted = 0;
    uint64_t rounds = 0;
    io_context2_t ctx;
    struct hold hold;
    int fd = temp_file(DEPTH * BLOCK, 0);

    alarm(0);
    own = (pid_t)syscall(SYS_gettid);
    end = now_ns() + MSEC * NSEC_PER_MSEC;
    memset(&action, 0, sizeof(action));
    action.sa_handler = on_tick;
    CHECK_EQ(sigaction(SIGALRM, &action, NULL), 0);
    CHECK_EQ(setitimer(ITIMER_REAL, &tick, NULL), 0);

    ctx = setup2(4096, 0, 0);
    /* Blocked in a worker all the time: a signal there would end it with EINTR. */
    hold_submit(ctx, &hold, 999);
    sigemptyset(&alarm_set);
    sigaddset(&alarm_set, SIGALRM);
    /* On a busy machine ticks are merged. */
    while (now_ns() < end || __atomic_load_n(&ticks, __ATOMIC_RELAXED) <= LEAST_TICKS) {
        /*
         * The kernel gives it to the main thread if that takes it: half the time it does not, and whoever
         * else would is found.
         */
        CHECK_EQ(pthread_sigmask(rounds % 2 == 0 ? SIG_BLOCK : SIG_UNBLOCK, &alarm_set, NULL), 0);
        for (int write = 1; write >= 0; write--) {
            size_t count = 0;

            for (size_t i = 0; i < DEPTH; i++) {
                if (write) {
                    fill_pattern(bufs[i], BLOCK, i * BLOCK, rounds);
                    io_prep2_pwrite(&iocbs[i], fd, bufs[i], BLOCK, (int64_t)(i * BLOCK));
                } else {
                    memset(bufs[i], 0, BLOCK);
                    io_prep2_pread(&iocbs[i], fd, bufs[i], BLOCK, (int64_t)(i * BLOCK));
                }
                iocbs[i].data = i;
            }
            submit_all(ctx, iocbs, sizeof(iocbs));
            while (count < DEPTH) {
                uint64_t before = __atomic_load_n(&ticks, __ATOMIC_RELAXED);
                ssize_t got = io_getevents2(ctx, (DEPTH - count) * sizeof(events[0]), events, sizeof(events), NULL);

                if (got == -EINTR) {
                    CHECK(__atomic_load_n(&ticks, __ATOMIC_RELAXED) != before);
                    interrupted++;
                    continue;
                }
                CHECK_CMP(got, >, 0);
                for (size_t i = 0; i < (size_t)got / sizeof(events[0]); i++) {
                    CHECK_CMP(events[i].data, <, DEPTH);
                    CHECK_EQ(events[i].res, BLOCK);
                    count++;
                }
            }
            CHECK_EQ(count, DEPTH);
        }
        for (size_t i = 0; i < DEPTH; i++)
            CHECK_PATTERN(bufs[i], BLOCK, i * BLOCK, rounds);
        rounds++;
        if (foreign != 0)
            FAIL("the handler ran in thread %d, which is not the program's", (int)foreign);
    }
    CHECK_EQ(pthread_sigmask(SIG_UNBLOCK, &alarm_set, NULL), 0);
    /* A wait with nothing to come is interrupted by the next tick. */
    CHECK_EQ(io_getevents2(ctx, sizeof(events[0]), events, sizeof(events), NULL), -EINTR);
    hold_release(&hold);
    for (;;) {
        ssize_t got = io_getevents2(ctx, sizeof(events[0]), events, sizeof(events), NULL);

        if (got == -EINTR)
            continue;
        CHECK_EQ(got, sizeof(events[0]));
        CHECK_EQ(events[0].data, 999);
        CHECK_EQ(events[0].res, 1);
        break;
    }
    hold_close(&hold);
    CHECK_EQ(setitimer(ITIMER_REAL, &off, NULL), 0);
    CHECK_EQ(foreign, 0);
    CHECK_RING_DRAINED(ctx, 1 + rounds * 2 * DEPTH);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    printf("%" PRIu64 " ticks, %" PRIu64 " rounds, %" PRIu64 " waits interrupted\n", ticks, rounds, interrupted);
    return 0;
}
