/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A program receives a real-time signal without an action for it, by signalfd() or sigwaitinfo(), or wants it to end the
 * process. The signal reaches the program as it was sent, even if it is the one that has interrupted requests so far. Running
 * requests continue, and can be interrupted afterwards.
 */
#include "test.h"
#include "stress.h"
#include <sys/signalfd.h>

enum { REQUESTS = 3, SIGNALS = 8 };

static io_context2_t ctx;
static int ends[2];
static char bytes[REQUESTS];
static struct iovec iovs[REQUESTS];

static void start_reads(void)
{
    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    make_blocking(&ends[0]);
    ctx = setup2(0, 0, 0);
    for (int i = 0; i < REQUESTS; i++) {
        struct iocb2 iocb;

        iovs[i] = (struct iovec){ &bytes[i], 1 };
        io_prep2_syscall(&iocb, SYS_readv, (uint64_t)ends[0], (uintptr_t)&iovs[i], 1, 0, 0, 0);
        iocb.data = (uint64_t)i;
        submit_one(ctx, &iocb);
    }
    CHECK_SOON(count_workers_in(SYS_readv) == REQUESTS);
}

/* The signal that the library has an action for. */
static int library_signal(void)
{
    for (int sig = SIGRTMAX; sig >= SIGRTMIN; sig--) {
        struct sigaction now;

        CHECK_EQ(sigaction(sig, NULL, &now), 0);
        if (now.sa_handler != SIG_DFL)
            return sig;
    }
    FAIL("there is none");
}

static void block(int sig)
{
    sigset_t set;

    CHECK_EQ(sigemptyset(&set), 0);
    CHECK_EQ(sigaddset(&set, sig), 0);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
}

/* Each was sent by sigqueue(), with its number. In whatever order: that of those under way is not kept. */
static void all_come(int sig, bool by_descriptor)
{
    bool seen[SIGNALS] = { false };
    sigset_t set;
    int fd;

    CHECK_EQ(sigemptyset(&set), 0);
    CHECK_EQ(sigaddset(&set, sig), 0);
    fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    CHECK(fd >= 0);
    for (int i = 0; i < SIGNALS; i++)
        CHECK_EQ(sigqueue(getpid(), sig, (union sigval){ .sival_int = i }), 0);
    for (int i = 0; i < SIGNALS; i++) {
        struct signalfd_siginfo read_info;
        int value;

        if (by_descriptor) {
            struct pollfd poller = { fd, POLLIN, 0 };
            ssize_t got;

            /* Until all workers have been given it, one may have it when poll() has seen it, and send it again. */
            do {
                if (poll(&poller, 1, PATIENCE_S * 1000) != 1)
                    FAIL("%d of %d signals have come", i, SIGNALS);
                got = read(fd, &read_info, sizeof(read_info));
            } while (got == -1 && errno == EAGAIN);
            CHECK_EQ(got, sizeof(read_info));
            CHECK_EQ(read_info.ssi_signo, sig);
            CHECK_EQ(read_info.ssi_code, SI_QUEUE);
            CHECK_EQ(read_info.ssi_pid, getpid());
            value = read_info.ssi_int;
        } else {
            struct timespec limit = { PATIENCE_S, 0 };
            siginfo_t info;

            if (sigtimedwait(&set, &info, &limit) != sig)
                FAIL("%d of %d signals have come", i, SIGNALS);
            CHECK_EQ(info.si_code, SI_QUEUE);
            value = info.si_value.sival_int;
        }
        CHECK(value >= 0 && value < SIGNALS && !seen[value]);
        seen[value] = true;
    }
    close(fd);
}

/* The sender can still be seen. */
static void comes_from(int sig)
{
    struct signalfd_siginfo info;
    struct pollfd poller;
    sigset_t set;

    CHECK_EQ(sigemptyset(&set), 0);
    CHECK_EQ(sigaddset(&set, sig), 0);
    int fd = signalfd(-1, &set, SFD_CLOEXEC);
    CHECK(fd >= 0);
    pid_t child = fork();
    if (child == 0)
        _exit(kill(getppid(), sig));
    wait_child(child);
    poller = (struct pollfd){ fd, POLLIN, 0 };
    CHECK_EQ(poll(&poller, 1, PATIENCE_S * 1000), 1);
    CHECK_EQ(read(fd, &info, sizeof(info)), sizeof(info));
    CHECK_EQ(info.ssi_signo, sig);
    CHECK_EQ(info.ssi_pid, child);
    CHECK_EQ(info.ssi_uid, getuid());
    close(fd);
}

static void goes_on(void)
{
    union event_room room;

    CHECK_EQ(ring_completed(ctx), 0);
    CHECK_SOON(count_workers_in(SYS_readv) == REQUESTS);
    CHECK_EQ(CALL(io_cancel2(ctx, 0)), 0);
    get_one(ctx, &room.event);
    CHECK_EQ(room.event.data, 0);
    CHECK_EQ(room.event.res, -EINTR);
    CHECK_EQ(write(ends[1], "x", 1), 1);
    get_one(ctx, &room.event);
    CHECK_EQ(room.event.res, 1);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
}

/* The highest one, blocked before the library is first used: the usual order. */
static void before(bool by_descriptor)
{
    block(SIGRTMAX);
    start_reads();
    CHECK(library_signal() != SIGRTMAX);
    all_come(SIGRTMAX, by_descriptor);
    goes_on();
    exit(0);
}

/* The one that is in use. */
static void after(bool by_descriptor)
{
    start_reads();
    int sig = library_signal();
    block(sig);
    comes_from(sig);
    all_come(sig, by_descriptor);
    goes_on();
    exit(0);
}

/* As if the library were not there. */
static void fatal(void)
{
    start_reads();
    CHECK_EQ(kill(getpid(), library_signal()), 0);
    /* It may go round. */
    sleep_ms(10000);
    exit(0);
}

int main(void)
{
    const struct rlimit no_core = { 0, 0 };

    CHECK_EQ(setrlimit(RLIMIT_CORE, &no_core), 0);
    for (int i = 0; i < 5; i++) {
        int status;
        pid_t child = fork();

        CHECK(child >= 0);
        if (child == 0) {
            if (i == 4)
                fatal();
            else if (i < 2)
                before(i % 2 == 0);
            else
                after(i % 2 == 0);
        }
        if (i < 4) {
            wait_child(child);
            continue;
        }
        CHECK_EQ(waitpid(child, &status, 0), child);
        CHECK(WIFSIGNALED(status));
        CHECK_CMP(WTERMSIG(status), >=, SIGRTMIN);
    }
    return 0;
}
