/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A signal handler on a small alternate stack calls exit(), and no thread can be created: what was accepted is carried out all the
 * same. Meanwhile other handlers run, and exit() goes on.
 */
#include "test.h"
#include "thread_hook.h"
#include <sys/time.h>

enum { WRITES = 500, BLOCK = 4096 };

static void on_alarm(int sig)
{
    volatile char stack[1024];

    /* If this were the stack of the handler that has called exit(), it would not end. */
    for (size_t i = 0; i < sizeof(stack); i++)
        stack[i] = (char)sig;
}

static void on_usr1(int sig)
{
    struct itimerval timer = { { 0, 200 }, { 0, 200 } };

    (void)sig;
    setitimer(ITIMER_REAL, &timer, NULL);
    exit(23);
}

static void handle(int sig, void (*handler)(int))
{
    struct sigaction action = { .sa_handler = handler, .sa_flags = SA_ONSTACK };

    CHECK_EQ(sigaction(sig, &action, NULL), 0);
}

static void run(int fd)
{
    static char small[8192], data[BLOCK];
    static struct iocb2 iocbs[WRITES];
    static struct hold hold;
    stack_t stack = { .ss_sp = small, .ss_size = sizeof(small) };
    io_context2_t ctx = setup2(0, 0, 1);

    allowed = 1000;
    /* Occupies the only worker that the context may have. */
    hold_submit(ctx, &hold, 1);
    hold_wait_running(1);
    memset(data, 'a', sizeof(data));
    for (int i = 0; i < WRITES; i++)
        io_prep2_pwrite(&iocbs[i], fd, data, BLOCK, (int64_t)i * BLOCK);
    submit_all(ctx, iocbs, sizeof(iocbs));
    allowed = 0;
    alarm(0);
    CHECK_EQ(sigaltstack(&stack, NULL), 0);
    handle(SIGALRM, on_alarm);
    handle(SIGUSR1, on_usr1);
    raise(SIGUSR1);
}

int main(void)
{
    int fd = temp_file(0, 0), status = 0;
    pid_t child = fork();

    CHECK(child >= 0);
    if (child == 0) {
        run(fd);
        _exit(1);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 23);
    for (int i = 0; i < WRITES; i++) {
        char last = 0;

        CHECK_EQ(pread(fd, &last, 1, (int64_t)(i + 1) * BLOCK - 1), 1);
        CHECK_EQ(last, 'a');
    }
    return 0;
}
