/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A signal handler calls exit(), wherever in the library its thread is: the process ends, soon and with that status, and what it
 * had written is there. The handler may have a small stack of its own. On files and devices on which the caller carries requests out by itself, or hands them to the kernel.
 */
/* time limit: 120 s */
#include "test.h"
#include "stress.h"
#include "device.h"
#include <sys/time.h>

#define BLOCK 4096
#define BLOCKS 8192
#define DEPTH 16
#define CHILDREN 25

static struct shared {
    /* How many writes have been accepted. */
    uint64_t accepted;
} *shared;

static int fd;
static unsigned char *memory;

static void on_alarm(int sig)
{
    (void)sig;
    exit(23);
}

static void __attribute__((noreturn)) write_blocks(size_t depth)
{
    io_context2_t ctx = setup2(65536, 0, 0);
    uint64_t submitted = 0, done = 0;

    for (;;) {
        struct io_event2 events[DEPTH];
        ssize_t n;

        while (submitted - done < depth) {
            size_t at = submitted % BLOCKS * BLOCK;
            struct iocb2 iocb;

            io_prep2_pwrite(&iocb, fd, memory + at, BLOCK, (int64_t)at);
            CHECK_EQ(io_submit2(ctx, &iocb, sizeof(iocb)), (ssize_t)sizeof(iocb));
            submitted++;
            __atomic_store_n(&shared->accepted, submitted, __ATOMIC_RELAXED);
        }
        n = io_getevents2(ctx, sizeof(events[0]), events, sizeof(events), NULL);
        CHECK_CMP(n, >, 0);
        for (size_t i = 0; i < (size_t)n / sizeof(events[0]); i++)
            CHECK_EQ(events[i].res, BLOCK);
        done += (size_t)n / sizeof(events[0]);
    }
}

static void on(const char *what, int file, size_t depth)
{
    unsigned char *back;
    void *at;

    fd = file;
    CHECK_EQ(posix_memalign(&at, 4096, BLOCK), 0);
    back = at;
    for (uint64_t i = 1; i <= CHILDREN; i++) {
        int64_t began = now_ns(), took;
        uint64_t seed = i * 1000003 + depth;
        int status = 0;

        shared->accepted = 0;
        for (size_t j = 0; j < BLOCKS; j++)
            memcpy(memory + j * BLOCK, &seed, sizeof(seed));
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
            write_blocks(depth);
        }
        while (waitpid(child, &status, WNOHANG) == 0) {
            if (now_ns() - began > 20 * NSEC_PER_SEC) {
                kill(child, SIGKILL);
                FAIL("%s, depth %zu: child %d does not end", what, depth, (int)i);
            }
            sleep_ms(1);
        }
        took = (now_ns() - began) / 1000000;
        CHECK(WIFEXITED(status));
        CHECK_EQ(WEXITSTATUS(status), 23);
        for (uint64_t j = 0; j < shared->accepted && j < BLOCKS; j++) {
            uint64_t seen;

            CHECK_EQ(pread(fd, back, BLOCK, (off_t)(j * BLOCK)), BLOCK);
            memcpy(&seen, back, sizeof(seen));
            if (seen != seed)
                FAIL("%s, depth %zu: write %d of %d of child %d is lost, after %d ms: there is what child %d wrote", what,
                     depth, (int)j, (int)shared->accepted, (int)i, (int)took, (int)((seen - depth) / 1000003));
        }
    }
    free(at);
}

int main(void)
{
    static const size_t depths[] = { 1, DEPTH };
    void *at;

    CHECK_EQ(posix_memalign(&at, 4096, (size_t)BLOCKS * BLOCK), 0);
    memory = at;
    memset(memory, 0, (size_t)BLOCKS * BLOCK);
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    for (size_t i = 0; i < 2; i++) {
        on("a file", temp_file((size_t)BLOCKS * BLOCK, 0), depths[i]);
        if (geteuid() != 0)
            continue;
        on("a loop device", loop_open(temp_file((size_t)BLOCKS * BLOCK, 0), O_DIRECT), depths[i]);
        on("a zram device", zram_open((size_t)BLOCKS * BLOCK, O_DIRECT), depths[i]);
    }
    return 0;
}
