/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Accepted requests that write files are carried out before a normal exit ends the process, by whichever way it exits and
 * whatever else runs. No exit hangs.
 */
#include "test.h"
#include "stress.h"

#define WRITES 3000
#define BLOCK 1024

static int fd;
static io_context2_t ctx;
static unsigned char *blocks;
static struct hold hold;

/* ---- In the child ----------------------------------------------------------------------------- */

static io_context2_t make_context(uint32_t workers)
{
    return setup2(4096, 0, workers);
}

/* Submits the writes numbered [from, to); the file has them in the end. */
static void submit_writes(io_context2_t to_ctx, int from, int to)
{
    struct iocb2 iocbs[100];

    while (from < to) {
        int n = to - from < 100 ? to - from : 100;

        for (int i = 0; i < n; i++)
            io_prep2_pwrite(&iocbs[i], fd, blocks + (size_t)(from + i) * BLOCK, BLOCK, (int64_t)(from + i) * BLOCK);
        submit_all(to_ctx, iocbs, (size_t)n * sizeof(iocbs[0]));
        from += n;
    }
}

static void prepare(uint32_t workers)
{
    ctx = make_context(workers);
}

static void *exit_from_thread(void *arg)
{
    (void)arg;
    submit_writes(ctx, 0, WRITES);
    exit(0);
}

static void *exit_while_main_waits(void *arg)
{
    (void)arg;
    sleep_ms(20);
    submit_writes(ctx, 0, WRITES);
    exit(0);
}

static void exit_in_handler(int sig)
{
    (void)sig;
    exit(0);
}

static void *interrupt_main(void *arg)
{
    sleep_ms(50);
    CHECK_EQ(pthread_kill(*(pthread_t *)arg, SIGUSR1), 0);
    return NULL;
}

static void *end_last(void *arg)
{
    (void)arg;
    sleep_ms(20);
    submit_writes(ctx, 0, WRITES);
    return NULL;
}

static void *submit_for_ever(void *arg)
{
    static char byte;
    struct iocb2 iocb;

    (void)arg;
    /* Beyond what the parent looks at. */
    io_prep2_pwrite(&iocb, fd, &byte, 1, (int64_t)WRITES * BLOCK);
    for (;;) {
        ssize_t got = io_submit2(ctx, &iocb, sizeof(iocb));

        CHECK(got == sizeof(iocb) || got == -EAGAIN || got == -EINVAL);
    }
}

static void *wait_for_ever(void *arg)
{
    struct io_event2 events[16];

    (void)arg;
    for (;;) {
        ssize_t got = io_getevents2(ctx, sizeof(events), events, sizeof(events), NULL);

        CHECK(got > 0 || got == -EINVAL);
    }
}

static void submit_at_exit(void)
{
    submit_writes(ctx, WRITES / 2, WRITES);
}

static int child(const char *how)
{
    sigset_t mask;
    pthread_t self = pthread_self();
    struct sigaction action;

    if (strcmp(how, "exit") == 0) {
        prepare(0);
        submit_writes(ctx, 0, WRITES);
        exit(0);
    }
    if (strcmp(how, "exit, one worker") == 0) {
        prepare(1);
        submit_writes(ctx, 0, WRITES);
        exit(0);
    }
    if (strcmp(how, "return from main") == 0) {
        prepare(0);
        submit_writes(ctx, 0, WRITES);
        return 0;
    }
    if (strcmp(how, "exit in another thread") == 0) {
        prepare(0);
        (void)thread_start(exit_from_thread, NULL);
        for (;;)
            pause();
    }
    if (strcmp(how, "exit while a thread waits") == 0) {
        prepare(0);
        (void)thread_start(exit_while_main_waits, NULL);
        (void)wait_for_ever(NULL);
    }
    if (strcmp(how, "exit while a thread submits") == 0) {
        prepare(0);
        submit_writes(ctx, 0, WRITES);
        (void)thread_start(submit_for_ever, NULL);
        (void)thread_start(wait_for_ever, NULL);
        sleep_ms(20);
        exit(0);
    }
    if (strcmp(how, "exit behind a blocked pipe read") == 0 || strcmp(how, "exit beside a blocked pipe read") == 0) {
        /* With one worker all writes are still queued at exit. */
        prepare(strstr(how, "behind") != NULL ? 1 : 0);
        hold_submit(ctx, &hold, 0);
        hold_wait_running(1);
        submit_writes(ctx, 0, WRITES);
        exit(0);
    }
    if (strcmp(how, "exit behind many blocked pipe reads") == 0) {
        /* As many as the pool has workers, or more. */
        static struct hold holds[2000];

        prepare(0);
        for (int i = 0; i < 2000; i++) {
            if (i == 0) {
                hold_init(&holds[0], 0);
            } else {
                holds[i] = holds[0];
                holds[i].iov.iov_base = &holds[i].byte;
                io_prep2_preadv2(&holds[i].iocb, holds[0].pipe[0], &holds[i].iov, 1, -1, 0);
            }
            submit_one(ctx, &holds[i].iocb);
        }
        submit_writes(ctx, 0, WRITES);
        exit(0);
    }
    if (strcmp(how, "exit in a handler that interrupted a wait") == 0) {
        memset(&action, 0, sizeof(action));
        action.sa_handler = exit_in_handler;
        sigaction(SIGUSR1, &action, NULL);
        prepare(1);
        hold_submit(ctx, &hold, 0);
        submit_writes(ctx, 0, WRITES);
        (void)thread_start(interrupt_main, &self);
        (void)wait_for_ever(NULL);
    }
    if (strcmp(how, "exit with all signals blocked") == 0) {
        sigfillset(&mask);
        CHECK_EQ(pthread_sigmask(SIG_BLOCK, &mask, NULL), 0);
        prepare(1);
        submit_writes(ctx, 0, WRITES);
        exit(0);
    }
    if (strcmp(how, "end of the last thread") == 0) {
        /* The C library calls exit(0) when the last thread ends: a worker that never does would hang it, unless it is idle. */
        prepare(0);
        (void)thread_start(end_last, NULL);
        pthread_exit(NULL);
    }
    if (strcmp(how, "writes from atexit") == 0) {
        CHECK_EQ(atexit(submit_at_exit), 0);
        prepare(0);
        submit_writes(ctx, 0, WRITES / 2);
        exit(0);
    }
    if (strcmp(how, "writes from atexit, registered last") == 0) {
        prepare(0);
        CHECK_EQ(atexit(submit_at_exit), 0);
        submit_writes(ctx, 0, WRITES / 2);
        exit(0);
    }
    if (strcmp(how, "many contexts") == 0) {
        for (int i = 0; i < 100; i++)
            submit_writes(make_context(1), i * (WRITES / 100), (i + 1) * (WRITES / 100));
        exit(0);
    }
    if (strcmp(how, "writes and fsyncs") == 0) {
        prepare(1);
        for (int i = 0; i < 10; i++) {
            struct iocb2 iocb;

            submit_writes(ctx, i * (WRITES / 10), (i + 1) * (WRITES / 10));
            io_prep2_fdatasync(&iocb, fd);
            submit_one(ctx, &iocb);
        }
        exit(0);
    }
    if (strcmp(how, "after a fork") == 0) {
        /* The child's exit is not the parent's: it neither waits for the parent's writes nor makes them. */
        pid_t pid;

        prepare(1);
        hold_submit(ctx, &hold, 0);
        hold_wait_running(1);
        submit_writes(ctx, 0, WRITES);
        pid = fork();
        CHECK(pid >= 0);
        if (pid == 0)
            exit(0);
        wait_child(pid);
        /* Behind the hold they are still to be made. */
        CHECK_EQ(lseek(fd, 0, SEEK_END), 0);
        exit(0);
    }
    if (strcmp(how, "in a forked child") == 0) {
        pid_t pid;

        prepare(0);
        submit_nops(ctx, 0, 100);
        pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            alarm(3 * PATIENCE_S);
            prepare(0);
            submit_writes(ctx, 0, WRITES);
            exit(0);
        }
        wait_child(pid);
        exit(0);
    }
    FAIL("unknown: %s", how);
}

/* ---- In the parent ---------------------------------------------------------------------------- */

static const char *const hows[] = {
    "exit",
    "exit, one worker",
    "return from main",
    "exit in another thread",
    "exit while a thread waits",
    "exit while a thread submits",
    "exit behind a blocked pipe read",
    "exit beside a blocked pipe read",
    "exit behind many blocked pipe reads",
    "exit in a handler that interrupted a wait",
    "exit with all signals blocked",
    "end of the last thread",
    "writes from atexit",
    "writes from atexit, registered last",
    "many contexts",
    "writes and fsyncs",
    "after a fork",
    "in a forked child",
};

static bool check_file(const char *path, const char *how)
{
    unsigned char *found = calloc(WRITES, BLOCK);
    int wrong = 0;
    ssize_t got;

    fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    CHECK(found != NULL);
    got = pread(fd, found, WRITES * BLOCK, 0);
    CHECK_CMP(got, >=, 0);
    for (int i = 0; i < WRITES; i++) {
        if (memcmp(found + (size_t)i * BLOCK, blocks + (size_t)i * BLOCK, BLOCK) != 0)
            wrong++;
    }
    if (wrong != 0)
        fprintf(stderr, "%s: %d of %d writes are not in the file\n", how, wrong, WRITES);
    free(found);
    close(fd);
    return wrong == 0;
}

int main(int argc, char **argv)
{
    bool good = true;

    blocks = malloc(WRITES * BLOCK);
    CHECK(blocks != NULL);
    fill_pattern(blocks, WRITES * BLOCK, 0, 1);
    if (argc == 3) {
        fd = open(argv[2], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        CHECK(fd >= 0);
        return child(argv[1]);
    }
    /* All are tried, so that a failure shows what else fails. */
    for (size_t i = 0; i < sizeof(hows) / sizeof(hows[0]); i++) {
        char *path = temp_path("writes");
        int64_t began = now_ns();
        int status = 0;
        pid_t pid = fork();

        CHECK(pid >= 0);
        if (pid == 0) {
            CHECK_EQ(setenv("TEST_TIME_LIMIT", "60", 1), 0);
            exec_self(hows[i], path, NULL);
        }
        CHECK_EQ(waitpid(pid, &status, 0), pid);
        if (status != 0) {
            fprintf(stderr, "%s: ended with %s %d after %.1f s\n", hows[i], WIFEXITED(status) ? "exit status" : "signal",
                    WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status), (double)(now_ns() - began) / 1e9);
            good = false;
        }
        good &= check_file(path, hows[i]);
        CHECK_EQ(unlink(path), 0);
        free(path);
    }
    CHECK(good);
    return 0;
}
