/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * RLIMIT_SIGPENDING is exhausted before a request begins or while it runs: io_cancel2() and io_destroy2() still interrupt it.
 */
#include "test.h"
#include "stress.h"

static void use_up(void)
{
    struct rlimit none = { 0, 0 };

    CHECK_EQ(setrlimit(RLIMIT_SIGPENDING, &none), 0);
    /* It is: this would need room. */
    sigset_t set;
    CHECK_EQ(sigemptyset(&set), 0);
    CHECK_EQ(sigaddset(&set, SIGRTMIN), 0);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
    CHECK_EQ(sigqueue(getpid(), SIGRTMIN, (union sigval){ 0 }), -1);
    CHECK_EQ(errno, EAGAIN);
}

static void part(bool before)
{
    static char bytes[4];
    static struct iovec iovs[4];
    int ends[2];

    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    make_blocking(&ends[0]);
    if (before)
        use_up();
    io_context2_t ctx = setup2(0, 0, 0);
    for (int i = 0; i < 4; i++) {
        struct iocb2 iocb;

        iovs[i] = (struct iovec){ &bytes[i], 1 };
        io_prep2_syscall(&iocb, SYS_readv, (uint64_t)ends[0], (uintptr_t)&iovs[i], 1, 0, 0, 0);
        iocb.data = (uint64_t)i;
        submit_one(ctx, &iocb);
    }
    CHECK_SOON(count_workers_in(SYS_readv) == 4);
    if (!before)
        use_up();
    for (int i = 0; i < 2; i++) {
        union event_room room;

        CHECK_EQ(CALL(io_cancel2(ctx, (uint64_t)i)), 0);
        get_one(ctx, &room.event);
        CHECK_EQ(room.event.data, i);
        CHECK_EQ(room.event.res, -EINTR);
    }
    /* The worker is as good as before. */
    struct iocb2 iocb;
    io_prep2_syscall(&iocb, SYS_readv, (uint64_t)ends[0], (uintptr_t)&iovs[0], 1, 0, 0, 0);
    iocb.data = 10;
    submit_one(ctx, &iocb);
    CHECK_SOON(count_workers_in(SYS_readv) == 3);
    CHECK_EQ(CALL(io_cancel2(ctx, 10)), 0);
    union event_room room;
    get_one(ctx, &room.event);
    CHECK_EQ(room.event.data, 10);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    exit(0);
}

int main(void)
{
    for (int before = 0; before < 2; before++) {
        pid_t child = fork();

        if (child == 0) {
            alarm(3 * PATIENCE_S);
            part(before);
        }
        wait_child(child);
    }
    return 0;
}
