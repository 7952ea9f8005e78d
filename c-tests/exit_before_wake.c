/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A signal handler calls exit() just before its thread wakes another: a worker that waits for a lock which is free, perhaps with
 * requests that it has not begun, is never woken then. The process ends all the same, soon, and what it had written is there.
 */
/* time limit: 120 s */
/* needs: root */
#include "test.h"
#include "stress.h"
#include "device.h"
#include <dlfcn.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <sys/time.h>

#define BLOCK 4096
#define BLOCKS 4096
#define DEPTH 16
#define CHILDREN 40
/* It may take a second to find that nobody moves. */
#define SOON_MS 2500

static struct shared {
    /* How many writes have been accepted. */
    uint64_t accepted;
    /* When it was interrupted. */
    int64_t interrupted_ns;
} *shared;

static unsigned char *memory;

/* ---- The library's way to the kernel ------------------------------------------------------------ */

static pthread_t interrupted;
/* At which of that thread's wakes it is interrupted; 0: at none. */
static int wakes_left;

/* In place of libc's, for the library too. */
long syscall(long nr, ...)
{
    static long (*next)(long, ...);
    long args[6];
    va_list list;

    va_start(list, nr);
    for (int i = 0; i < 6; i++)
        args[i] = va_arg(list, long);
    va_end(list);
    if (next == NULL)
        *(void **)&next = dlsym(RTLD_NEXT, "syscall");
    if (nr == SYS_futex && (args[1] & FUTEX_CMD_MASK) == FUTEX_WAKE && wakes_left > 0 &&
        pthread_equal(pthread_self(), interrupted) && --wakes_left == 0)
        raise(SIGALRM);
    return next(nr, args[0], args[1], args[2], args[3], args[4], args[5]);
}

static void on_signal(int sig)
{
    (void)sig;
    shared->interrupted_ns = now_ns();
    exit(23);
}

/* ------------------------------------------------------------------------------------------------- */

static void __attribute__((noreturn)) write_blocks(int fd)
{
    io_context2_t ctx = setup2(65536, 0, 0);
    uint64_t submitted = 0, done = 0;

    for (;;) {
        struct io_event2 events[DEPTH];
        ssize_t n;

        while (submitted - done < DEPTH) {
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

static void on(int fd)
{
    unsigned char *back;
    void *at;

    CHECK_EQ(posix_memalign(&at, 4096, BLOCK), 0);
    back = at;
    for (int i = 1; i <= CHILDREN; i++) {
        uint64_t seed = (uint64_t)i * 1000003;
        int status = 0;

        shared->accepted = 0;
        for (size_t j = 0; j < BLOCKS; j++)
            memcpy(memory + j * BLOCK, &seed, sizeof(seed));
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
            write_blocks(fd);
        }
        CHECK_EQ(waitpid(child, &status, 0), child);
        CHECK(WIFEXITED(status));
        CHECK_EQ(WEXITSTATUS(status), 23);
        CHECK_CMP((now_ns() - shared->interrupted_ns) / 1000000, <, SOON_MS);
        for (uint64_t j = 0; j < shared->accepted && j < BLOCKS; j++) {
            uint64_t seen;

            CHECK_EQ(pread(fd, back, BLOCK, (off_t)(j * BLOCK)), BLOCK);
            memcpy(&seen, back, sizeof(seen));
            if (seen != seed)
                FAIL("write %d of %d of child %d is lost", (int)j, (int)shared->accepted, i);
        }
    }
    free(at);
}

int main(void)
{
    void *at;

    CHECK_EQ(posix_memalign(&at, 4096, (size_t)BLOCKS * BLOCK), 0);
    memory = at;
    memset(memory, 0, (size_t)BLOCKS * BLOCK);
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    on(zram_open((size_t)BLOCKS * BLOCK, O_DIRECT));
    return 0;
}
