/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The calls that wait: poll, ppoll and epoll_wait for a descriptor, clock_nanosleep for a time, flock for a lock. Each waits
 * until its event has happened, and not longer. The other requests continue meanwhile.
 */
#include "test.h"
#include "call.h"

#include <sys/epoll.h>
#include <sys/file.h>

static void check_waits(void)
{
    struct iocb2 iocb;
    union event_room room;

    expect_no_event(call_ctx, 30);
    /* Another request is not held up by it. */
    io_prep2_nop(&iocb);
    iocb.data = 77;
    submit_one(call_ctx, &iocb);
    get_one(call_ctx, &room.event);
    CHECK_EQ(room.event.data, 77);
}

int main(void)
{
    struct timespec limit = { .tv_sec = 100, .tv_nsec = 0 };
    struct timespec until;
    struct epoll_event event = { .events = EPOLLIN, .data = { .u64 = 42 } };
    struct epoll_event seen;
    struct pollfd poller;
    int64_t before;
    char *path;
    char byte;
    int pipes[2];
    int epoll;
    int mine;
    int other;

    CHECK_EQ(pipe2(pipes, O_CLOEXEC), 0);
    poller.fd = pipes[0];
    poller.events = POLLIN;
    poller.revents = 0;

#ifdef SYS_poll
    start_call(1, SYS_poll, P(&poller), 1, N(100000));
    check_waits();
    CHECK_EQ(write(pipes[1], "x", 1), 1);
    CHECK_EQ(end_call(1), 1);
    CHECK_EQ(poller.revents, POLLIN);
    CHECK_EQ(read(pipes[0], &byte, 1), 1);
    poller.revents = 0;
    CHECK_EQ(call_async(SYS_poll, P(&poller), 1, 10), 0);
#endif

    start_call(2, SYS_ppoll, P(&poller), 1, P(&limit), 0, 8);
    check_waits();
    CHECK_EQ(write(pipes[1], "x", 1), 1);
    CHECK_EQ(end_call(2), 1);
    CHECK_EQ(poller.revents, POLLIN);
    CHECK_EQ(read(pipes[0], &byte, 1), 1);
    /* A mask would be the worker's. */
    CHECK_EQ(call_async(SYS_ppoll, P(&poller), 1, P(&limit), P(&byte), 8), -ENOSYS);

    epoll = (int)call_async(SYS_epoll_create1, EPOLL_CLOEXEC);
    CHECK_CMP(epoll, >=, 0);
    CHECK_EQ(call_async(SYS_epoll_ctl, N(epoll), EPOLL_CTL_ADD, N(pipes[0]), P(&event)), 0);
#ifdef SYS_epoll_wait
    start_call(3, SYS_epoll_wait, N(epoll), P(&seen), 1, N(-1));
#else
    start_call(3, SYS_epoll_pwait, N(epoll), P(&seen), 1, N(-1), 0, 8);
#endif
    check_waits();
    CHECK_EQ(write(pipes[1], "x", 1), 1);
    CHECK_EQ(end_call(3), 1);
    CHECK_EQ(seen.data.u64, 42);
    CHECK_EQ(seen.events, EPOLLIN);

    CHECK_EQ(clock_gettime(CLOCK_MONOTONIC, &until), 0);
    before = now_ns();
    until.tv_nsec += 100 * NSEC_PER_MSEC;
    if (until.tv_nsec >= NSEC_PER_SEC) {
        until.tv_sec++;
        until.tv_nsec -= NSEC_PER_SEC;
    }
    start_call(4, SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, P(&until), 0);
    check_waits();
    CHECK_EQ(end_call(4), 0);
    CHECK_CMP(now_ns() - before, >=, 100 * NSEC_PER_MSEC);

    /* Two open files: a lock belongs to one of them, whichever thread has taken it. */
    path = temp_path("locked");
    mine = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    other = open(path, O_RDWR | O_CLOEXEC);
    CHECK(mine >= 0 && other >= 0);
    CHECK_EQ(call_async(SYS_flock, N(mine), LOCK_EX), 0);
    CHECK_EQ(call_async(SYS_flock, N(other), LOCK_EX | LOCK_NB), -EWOULDBLOCK);
    start_call(5, SYS_flock, N(other), LOCK_EX);
    check_waits();
    CHECK_EQ(flock(mine, LOCK_UN), 0);
    CHECK_EQ(end_call(5), 0);
    CHECK_EQ(flock(mine, LOCK_EX | LOCK_NB), -1);
    CHECK_EQ(errno, EWOULDBLOCK);
    free(path);
    call_end();
    return 0;
}
