/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A signal handler calls exit(), wherever in the library its thread is: the process ends soon, with that status, and its
 * written data is there. The handler may have a small stack of its own. On files and devices for which the caller carries
 * requests out itself, or hands them over to the kernel.
 */
#include "test.h"
#include "stress.h"
#include "device.h"
#include "exit_inside.h"
#include <sys/time.h>

#define BLOCKS 8192
#define CHILDREN 25

static void on_alarm(int sig)
{
    (void)sig;
    exit(23);
}

/* `grows`: each child finds the file empty. */
static void on(const char *what, int fd, size_t depth, bool grows)
{
    for (uint64_t i = 1; i <= fewer(CHILDREN); i++) {
        int64_t began = now_ns(), took;
        uint64_t seed = i * 1000003 + depth, lost, seen;
        int status = 0;

        begin_child(seed);
        if (grows)
            CHECK_EQ(ftruncate(fd, 0), 0);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            static unsigned char small[8192];
            stack_t stack = { .ss_sp = small, .ss_size = sizeof(small) };
            struct sigaction action = { .sa_handler = on_alarm, .sa_flags = SA_ONSTACK };
            struct itimerval timer = { { 0, 0 }, { 0, (suseconds_t)(3000 + i * 7919 % 20000) } };

            alarm(0);
            if (i % 2 == 0)
                CHECK_EQ(sigaltstack(&stack, NULL), 0);
            CHECK_EQ(sigaction(SIGALRM, &action, NULL), 0);
            CHECK_EQ(setitimer(ITIMER_REAL, &timer, NULL), 0);
            write_blocks(fd, depth);
        }
        while (waitpid(child, &status, WNOHANG) == 0) {
            if (now_ns() - began > 60 * NSEC_PER_SEC) {
                kill(child, SIGKILL);
                FAIL("%s, depth %zu: child %d does not end", what, depth, (int)i);
            }
            sleep_ms(1);
        }
        took = (now_ns() - began) / 1000000;
        CHECK(WIFEXITED(status));
        CHECK_EQ(WEXITSTATUS(status), 23);
        if (find_lost(fd, seed, &lost, &seen))
            FAIL("%s, depth %zu: write %d of %d of child %d is lost, after %d ms: there is what child %d wrote", what, depth,
                 (int)lost, (int)shared->accepted, (int)i, (int)took, (int)((seen - depth) / 1000003));
    }
}

int main(void)
{
    static const size_t depths[] = { 1, DEPTH };

    begin(BLOCKS);
    for (size_t i = 0; i < 2; i++) {
        on("a file", temp_file((size_t)BLOCKS * BLOCK, 0), depths[i], false);
        on("a file that grows", temp_file(0, O_DIRECT), depths[i], true);
        if (geteuid() != 0)
            continue;
        on("a loop device", loop_open(temp_file((size_t)BLOCKS * BLOCK, 0), O_DIRECT), depths[i], false);
        on("a zram device", zram_open((size_t)BLOCKS * BLOCK, O_DIRECT), depths[i], false);
    }
    return 0;
}
