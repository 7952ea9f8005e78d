/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Without threads, the caller that waits carries requests out. A signal that a system call raises in its thread (SIGPIPE,
 * SIGXFSZ) is not delivered to this caller: it gets the errno in `res`, as from a worker. The same for the thread that
 * carries out the remaining requests at exit().
 */
#include "test.h"
#include "stress.h"
#include "thread_hook.h"

static volatile sig_atomic_t signals;

static void on_signal(int sig)
{
    (void)sig;
    signals++;
}

static void handle(int sig, void (*handler)(int))
{
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_handler = handler;
    CHECK_EQ(sigaction(sig, &action, NULL), 0);
}

static void check_nothing_pending(int sig)
{
    sigset_t set;

    CHECK_EQ(sigpending(&set), 0);
    CHECK_EQ(sigismember(&set, sig), 0);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, NULL, &set), 0);
    CHECK_EQ(sigismember(&set, sig), 0);
}

static void limit_file_size(rlim_t bytes)
{
    struct rlimit limit;

    CHECK_EQ(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes;
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void wait_for_errors(int fd)
{
    io_context2_t ctx = setup2(4096, 0, 0);
    union event_room room;
    struct iocb2 iocb;
    struct iovec iov;
    int ends[2];
    char byte = 0;

    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    close(ends[0]);
    iov.iov_base = &byte;
    iov.iov_len = 1;
    io_prep2_pwritev2(&iocb, ends[1], &iov, 1, -1, 0);
    submit_one(ctx, &iocb);
    get_one(ctx, &room);
    CHECK_EQ(room.event.res, -EPIPE);
    check_nothing_pending(SIGPIPE);

    limit_file_size(4096);
    io_prep2_pwrite(&iocb, fd, &byte, 1, 8192);
    submit_one(ctx, &iocb);
    get_one(ctx, &room);
    CHECK_EQ(room.event.res, -EFBIG);
    check_nothing_pending(SIGXFSZ);
    limit_file_size(RLIM_INFINITY);
    CHECK_EQ(signals, 0);

    /* One that was pending before still is: it is the program's. */
    {
        sigset_t set;
        sigset_t pending;

        sigemptyset(&set);
        sigaddset(&set, SIGPIPE);
        CHECK_EQ(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
        CHECK_EQ(raise(SIGPIPE), 0);
        io_prep2_pwritev2(&iocb, ends[1], &iov, 1, -1, 0);
        submit_one(ctx, &iocb);
        get_one(ctx, &room);
        CHECK_EQ(room.event.res, -EPIPE);
        CHECK_EQ(sigpending(&pending), 0);
        CHECK_EQ(sigismember(&pending, SIGPIPE), 1);
        handle(SIGPIPE, SIG_IGN);
        CHECK_EQ(pthread_sigmask(SIG_UNBLOCK, &set, NULL), 0);
    }
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    close(ends[1]);
}

static void exit_with_errors(int fd)
{
    static char byte = 'x';
    struct iocb2 iocb;
    io_context2_t ctx = setup2(4096, 0, 0);

    limit_file_size(4096);
    io_prep2_pwrite(&iocb, fd, &byte, 1, 8192);
    submit_one(ctx, &iocb);
    io_prep2_pwrite(&iocb, fd, &byte, 1, 0);
    submit_one(ctx, &iocb);
    exit(0);
}

static void run_child(int part)
{
    int fd = temp_file(0, 0);
    pid_t pid = fork();

    CHECK(pid >= 0);
    if (pid == 0) {
        struct rlimit no_core = { 0, 0 };

        CHECK_EQ(setrlimit(RLIMIT_CORE, &no_core), 0);
        alarm(3 * PATIENCE_S);
        allowed = 0;
        switch (part) {
        case 0:
            wait_for_errors(fd);
            break;
        case 1:
            handle(SIGPIPE, on_signal);
            handle(SIGXFSZ, on_signal);
            wait_for_errors(fd);
            break;
        default:
            exit_with_errors(fd);
        }
        exit(0);
    }
    wait_child(pid);
    if (part == 2) {
        char byte;

        CHECK_EQ(pread(fd, &byte, 1, 0), 1);
        CHECK_EQ(byte, 'x');
    }
    close(fd);
}

int main(void)
{
    for (int part = 0; part < 3; part++)
        run_child(part);
    return 0;
}
