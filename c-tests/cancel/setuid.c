/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The C library's setuid() sends a signal to each thread. It does not disturb requests: a request that waits continues to wait
 * for the rest of its time, and does not complete with -EINTR. An interruption that io_cancel2() has promised, or that
 * io_destroy2() waits for, is not lost if both come together.
 */
#include "test.h"
#include "stress.h"
#include <linux/futex.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/select.h>

/* What each request with a time waits for, and how often the signal comes meanwhile. */
#define WAIT_MS 400
#define PERIOD_MS 7

static bool stops;
static int pause_ms;
static int changes;

/* To the user that it is: nothing changes. */
static void *changes_user(void *arg)
{
    while (!__atomic_load_n(&stops, __ATOMIC_RELAXED)) {
        CHECK_EQ(setuid(getuid()), 0);
        __atomic_fetch_add(&changes, 1, __ATOMIC_RELAXED);
        if (pause_ms != 0)
            sleep_ms(pause_ms);
    }
    return arg;
}

static pthread_t start_changes(int ms)
{
    pause_ms = ms;
    __atomic_store_n(&stops, false, __ATOMIC_RELAXED);
    return thread_start(changes_user, NULL);
}

static void stop_changes(pthread_t thread)
{
    __atomic_store_n(&stops, true, __ATOMIC_RELAXED);
    thread_join(thread);
}

/* This thread is sent the signal, too. */
static void get_one_event(io_context2_t ctx, struct io_event2 *event)
{
    const int64_t end = now_ns() + PATIENCE_NS;
    struct timespec limit = { 1, 0 };
    ssize_t got;

    do {
        got = io_getevents2(ctx, sizeof(*event), event, sizeof(*event), &limit);
        CHECK_CMP(now_ns(), <, end);
    } while (got == 0 || got == -EINTR);
    CHECK_EQ(got, (ssize_t)sizeof(*event));
}

/* ---- What waits goes on ---------------------------------------------------------------------- */

enum { TIMED = 20, UNTIMED = 8 };

static void timed(void)
{
    const struct timespec limit = timespec_ns(WAIT_MS * NSEC_PER_MSEC);
    struct timespec own[TIMED];
    struct timeval tv = { 0, WAIT_MS * 1000 };
    static uint32_t word;
    struct pollfd poller;
    struct epoll_event event;
    struct sembuf down = { 0, -1, 0 };
    int64_t expected[TIMED];
    struct iocb2 iocbs[TIMED];
    int ends[2], n = 0;
    io_context2_t ctx = setup2(0, 0, 0);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    int sem = semget(IPC_PRIVATE, 1, 0600);
    /* Where the kernel cannot write to what is left. */
    struct timespec *fixed = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    struct timeval *fixed_tv = (struct timeval *)(fixed + 1);

    CHECK(epoll >= 0 && sem >= 0 && fixed != MAP_FAILED);
    *fixed = limit;
    *fixed_tv = tv;
    CHECK_EQ(mprotect(fixed, 4096, PROT_READ), 0);
    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    poller = (struct pollfd){ .fd = ends[0], .events = POLLIN };
    for (int i = 0; i < TIMED; i++)
        own[i] = limit;
#define ADD(res, ...)                                                                              \
    do {                                                                                           \
        CHECK_CMP(n, <, TIMED);                                                                    \
        io_prep2_syscall(&iocbs[n], __VA_ARGS__);                                                  \
        expected[n] = (res);                                                                       \
        iocbs[n].data = (uint64_t)n;                                                               \
        n++;                                                                                       \
    } while (0)
#ifdef SYS_poll
    ADD(0, SYS_poll, (uintptr_t)&poller, 1, WAIT_MS, 0, 0, 0);
    ADD(0, SYS_epoll_wait, (uint64_t)epoll, (uintptr_t)&event, 1, WAIT_MS, 0, 0);
    ADD(0, SYS_select, 0, 0, 0, 0, (uintptr_t)&tv, 0);
    ADD(0, SYS_select, 0, 0, 0, 0, (uintptr_t)fixed_tv, 0);
#endif
    ADD(0, SYS_ppoll, (uintptr_t)&poller, 1, (uintptr_t)&own[n], 0, 8, 0);
    ADD(0, SYS_ppoll, (uintptr_t)&poller, 1, (uintptr_t)fixed, 0, 8, 0);
    ADD(0, SYS_pselect6, 0, 0, 0, 0, (uintptr_t)&own[n], 0);
    ADD(0, SYS_epoll_pwait, (uint64_t)epoll, (uintptr_t)&event, 1, WAIT_MS, 0, 8);
    ADD(0, SYS_nanosleep, (uintptr_t)&own[n], 0, 0, 0, 0, 0);
    ADD(0, SYS_nanosleep, (uintptr_t)&own[n], (uintptr_t)&own[n], 0, 0, 0, 0);
    ADD(0, SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, (uintptr_t)&own[n], 0, 0, 0);
    ADD(0, SYS_clock_nanosleep, CLOCK_REALTIME, 0, (uintptr_t)fixed, 0, 0, 0);
    ADD(-EAGAIN, SYS_semtimedop, (uint64_t)sem, (uintptr_t)&down, 1, (uintptr_t)&own[n], 0, 0);
    ADD(-ETIMEDOUT, SYS_futex, (uintptr_t)&word, FUTEX_WAIT, 0, (uintptr_t)&own[n], 0, 0);
    ADD(-ETIMEDOUT, SYS_futex, (uintptr_t)&word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, (uintptr_t)fixed, 0, 0);

    pthread_t thread = start_changes(PERIOD_MS);
    int64_t began = now_ns();
    submit_all(ctx, iocbs, (size_t)n * sizeof(iocbs[0]));
    for (int left = n; left != 0; left--) {
        struct io_event2 got;

        get_one_event(ctx, &got);
        CHECK_CMP(got.data, <, n);
        if (got.res != expected[got.data])
            FAIL("request %d (system call %u): %lld", (int)got.data, iocbs[got.data].nr, (long long)got.res);
        CHECK_CMP(now_ns() - began, >=, WAIT_MS * NSEC_PER_MSEC);
    }
    /* If one began anew each time, it would never end. */
    CHECK_CMP(now_ns() - began, <, PATIENCE_NS);
    stop_changes(thread);
    CHECK_EQ(semctl(sem, 0, IPC_RMID), 0);
    CHECK_EQ(munmap(fixed, 4096), 0);
    close(epoll);
    close(ends[0]);
    close(ends[1]);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
}

static void untimed(void)
{
    static const struct timeval long_time = { 600, 0 };
    static char bytes[UNTIMED];
    static uint32_t word;
    char path[] = "/tmp/setuid.XXXXXX";
    struct iocb2 iocbs[UNTIMED];
    struct sembuf down = { 0, -1, 0 }, up = { 0, 1, 0 };
    struct iovec first = { &bytes[0], 1 }, iov = { &bytes[1], 1 };
    int ends[2], sockets[2], n = 0;
    io_context2_t ctx = setup2(0, 0, 0);
    int sem = semget(IPC_PRIVATE, 1, 0600);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    socklen_t length = sizeof(address);

    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    make_blocking(&ends[0]);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
    /* Such a socket says EINTR whatever the handler's flags are. */
    CHECK_EQ(setsockopt(sockets[0], SOL_SOCKET, SO_RCVTIMEO, &long_time, sizeof(long_time)), 0);
    CHECK_EQ(bind(listener, (struct sockaddr *)&address, sizeof(sa_family_t)), 0);
    CHECK_EQ(listen(listener, 1), 0);
    CHECK_EQ(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    int one = mkostemp(path, O_CLOEXEC), other = open(path, O_RDWR | O_CLOEXEC);
    CHECK(one >= 0 && other >= 0);
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(flock(one, LOCK_EX), 0);
    struct pollfd poller = { .fd = ends[0], .events = POLLIN };

    io_prep2_syscall(&iocbs[n++], SYS_readv, (uint64_t)ends[0], (uintptr_t)&first, 1, 0, 0, 0);
    io_prep2_preadv2(&iocbs[n++], sockets[1], &iov, 1, -1, 0);
    io_prep2_syscall(&iocbs[n++], SYS_recvfrom, (uint64_t)sockets[0], (uintptr_t)&bytes[2], 1, 0, 0, 0);
    io_prep2_syscall(&iocbs[n++], SYS_accept4, (uint64_t)listener, 0, 0, SOCK_CLOEXEC, 0, 0);
    io_prep2_syscall(&iocbs[n++], SYS_flock, (uint64_t)other, LOCK_EX, 0, 0, 0, 0);
    io_prep2_syscall(&iocbs[n++], SYS_ppoll, (uintptr_t)&poller, 1, 0, 0, 8, 0);
    io_prep2_syscall(&iocbs[n++], SYS_semtimedop, (uint64_t)sem, (uintptr_t)&down, 1, 0, 0, 0);
    io_prep2_syscall(&iocbs[n++], SYS_futex, (uintptr_t)&word, FUTEX_WAIT, 0, 0, 0, 0);
    CHECK_EQ(n, UNTIMED);
    submit_all(ctx, iocbs, sizeof(iocbs));
    /* Some of them wait without a thread. */
    CHECK_SOON(count_workers() + is_awaited(ends[0]) + is_awaited(sockets[1]) + is_awaited(listener) >= n);
    __atomic_store_n(&changes, 0, __ATOMIC_RELAXED);
    pthread_t thread = start_changes(PERIOD_MS);
    CHECK_SOON(__atomic_load_n(&changes, __ATOMIC_RELAXED) > 40);
    CHECK_EQ(ring_completed(ctx), 0);
    stop_changes(thread);
    /* Each ends when it has what it waits for. */
    CHECK_EQ(write(sockets[0], "x", 1), 1);
    CHECK_EQ(write(sockets[1], "x", 1), 1);
    int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQ(connect(client, (struct sockaddr *)&address, length), 0);
    CHECK_EQ(flock(one, LOCK_UN), 0);
    CHECK_EQ(semop(sem, &up, 1), 0);
    __atomic_store_n(&word, 1, __ATOMIC_SEQ_CST);
    CHECK_CMP(syscall(SYS_futex, &word, FUTEX_WAKE, 1, NULL, NULL, 0), >=, 0);
    CHECK_EQ(write(ends[1], "xx", 2), 2);
    for (int left = n; left != 0; left--) {
        struct io_event2 got;

        get_one_event(ctx, &got);
        CHECK(got.res >= 0 || got.res == -EAGAIN);
    }
    CHECK_EQ(semctl(sem, 0, IPC_RMID), 0);
    for (int i = 0; i < 2; i++) {
        close(ends[i]);
        close(sockets[i]);
    }
    close(listener);
    close(client);
    close(one);
    close(other);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
}

/* ---- A request that must end does ------------------------------------------------------------- */

static void cancelled(void)
{
    io_context2_t ctx = setup2(0, 0, 0);
    pthread_t thread = start_changes(0);
    char byte;
    int ends[2];

    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    for (int round = 0; round < 20000; round++) {
        struct io_event2 event;
        struct iocb2 iocb;

        io_prep2_syscall(&iocb, SYS_read, (uint64_t)ends[0], (uintptr_t)&byte, 1, 0, 0, 0);
        iocb.data = (uint64_t)round;
        submit_one(ctx, &iocb);
        if (round % 2 == 0)
            for (int spin = 0; spin < round % 64 * 100; spin++)
                __asm__ volatile("");
        CHECK_EQ(CALL(io_cancel2(ctx, (uint64_t)round)), 0);
        /* Should it run on, this fails. */
        get_one_event(ctx, &event);
        CHECK(event.res == -EINTR || event.res == -ECANCELED);
    }
    stop_changes(thread);
    close(ends[0]);
    close(ends[1]);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
}

static void destroyed(void)
{
    enum { REQUESTS = 8 };
    pthread_t thread = start_changes(0);
    static char bytes[REQUESTS];
    int ends[2];

    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    for (int round = 0; round < 6000; round++) {
        io_context2_t ctx = setup2(0, 0, 0);
        struct iocb2 iocbs[REQUESTS];

        for (int i = 0; i < REQUESTS; i++)
            io_prep2_syscall(&iocbs[i], SYS_read, (uint64_t)ends[0], (uintptr_t)&bytes[i], 1, 0, 0, 0);
        submit_all(ctx, iocbs, sizeof(iocbs));
        for (int spin = 0; spin < round % 64 * 1000; spin++)
            __asm__ volatile("");
        CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    }
    stop_changes(thread);
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    timed();
    untimed();
    cancelled();
    destroyed();
    return 0;
}
