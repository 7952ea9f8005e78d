/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A panic in the library's own code (by a test hook, in io_submit2) ends the process by SIGABRT with a message
 * on stderr: it neither returns to the caller, nor unwinds through it, nor exits. Needs the library built with
 * test hooks.
 */
#include "test.h"
#include "stress.h"

static void at_exit(void)
{
    fprintf(stderr, "REACHED: exit\n");
}

static void cleanup(void *arg)
{
    (void)arg;
    fprintf(stderr, "REACHED: cleanup\n");
}

static void *panic(void *arg)
{
    io_context2_t ctx = setup2(0, 0, 0);
    struct iocb2 iocb;

    (void)arg;
    io_prep2_nop(&iocb);
    /* The C library's cancellation unwinds through this, as a panic that unwinds would. */
    pthread_cleanup_push(cleanup, NULL);
    (void)io_submit2(ctx, &iocb, sizeof(iocb));
    fprintf(stderr, "REACHED: after io_submit2\n");
    pthread_cleanup_pop(0);
    exit(3);
}

static void one(const char *where)
{
    static char text[65536];
    size_t size = 0;
    int status = 0;
    int ends[2];
    pid_t pid;

    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        struct rlimit no_core = { 0, 0 };

        CHECK_EQ(setrlimit(RLIMIT_CORE, &no_core), 0);
        CHECK_EQ(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
        CHECK_EQ(setenv("AIO2_HOOK_PANIC", "submit", 1), 0);
        exec_self(where, NULL, NULL);
    }
    close(ends[1]);
    for (;;) {
        ssize_t n = read(ends[0], text + size, sizeof(text) - 1 - size);

        CHECK_CMP(n, >=, 0);
        if (n == 0)
            break;
        size += (size_t)n;
    }
    text[size] = '\0';
    close(ends[0]);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    printf("in %s: %s", where, text);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT)
        FAIL("expected SIGABRT, seen status %#x", (unsigned int)status);
    CHECK(strstr(text, "panic") != NULL);
    CHECK(strstr(text, "REACHED") == NULL);
}

int main(int argc, char **argv)
{
    if (argc == 2) {
        CHECK_EQ(atexit(at_exit), 0);
        if (strcmp(argv[1], "main") == 0)
            panic(NULL);
        thread_join(thread_start(panic, NULL));
        return 4;
    }
    one("main");
    one("thread");
    return 0;
}
