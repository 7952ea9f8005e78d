/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A signal handler calls exit() just before its thread wakes another thread: a worker that waits for a lock which is free,
 * perhaps with requests that it has not begun, is never woken. The process still ends, and its written data is there.
 */
/* needs: root */
#include "test.h"
#include "stress.h"
#include "device.h"
#include "exit_inside.h"
#include "syscall_hook.h"
#include <linux/futex.h>
#include <sys/time.h>

#define BLOCKS 4096
#define CHILDREN 40

static pthread_t interrupted;
/* At which of that thread's wakes it is interrupted; 0: at none. */
static int wakes_left;

static void before_syscall(long nr, const long args[6])
{
    if (nr == SYS_futex && (args[1] & FUTEX_CMD_MASK) == FUTEX_WAKE && wakes_left > 0 &&
        pthread_equal(pthread_self(), interrupted) && --wakes_left == 0)
        raise(SIGALRM);
}

static void on_signal(int sig)
{
    (void)sig;
    exit(23);
}

static void on(int fd)
{
    for (int i = 1; i <= (int)fewer(CHILDREN); i++) {
        uint64_t seed = (uint64_t)i * 1000003, lost, seen;
        int status = 0;

        begin_child(seed);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            struct sigaction action = { .sa_handler = on_signal };

            /* If there are not that many. */
            struct itimerval timer = { { 0, 0 }, { 0, 300000 } };

            alarm(0);
            CHECK_EQ(sigaction(SIGALRM, &action, NULL), 0);
            CHECK_EQ(setitimer(ITIMER_REAL, &timer, NULL), 0);
            interrupted = pthread_self();
            wakes_left = i;
            write_blocks(fd, DEPTH);
        }
        CHECK_EQ(waitpid(child, &status, 0), child);
        CHECK(WIFEXITED(status));
        CHECK_EQ(WEXITSTATUS(status), 23);
        if (find_lost(fd, seed, &lost, &seen))
            FAIL("write %d of %d of child %d is lost", (int)lost, (int)shared->accepted, i);
    }
}

int main(void)
{
    begin(BLOCKS);
    on(zram_open((size_t)BLOCKS * BLOCK, O_DIRECT));
    return 0;
}
