/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * io_cancel2() interrupts a running request if its system call may wait for somebody else. If the call has moved bytes, it
 * reports them. The program keeps its signals: only one action changes, that of a real-time signal, and a signal that the
 * program uses is not taken.
 */
#include "test.h"
#include "stress.h"
#include <linux/futex.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>

static io_context2_t ctx;

/* Idle workers are in futex(2) too: the first argument tells them apart. */
static bool is_asleep_in(const char *tid, void *arg)
{
    const struct iocb2 *iocb = arg;
    char text[256], call[64];

    int length = snprintf(call, sizeof(call), "%u 0x%" PRIx64 " ", iocb->nr, (uint64_t)iocb->args[0]);
    return read_task_file(tid, "syscall", text, sizeof(text)) && strncmp(text, call, (size_t)length) == 0;
}

/* Asleep in its call, or without a thread. */
static void wait_until_waits(struct iocb2 *iocb)
{
    int fd = iocb->nr == SYS_ppoll ? ((struct pollfd *)(uintptr_t)iocb->args[0])->fd : (int)iocb->args[0];

    CHECK_SOON(for_workers(is_asleep_in, iocb) >= 1 || is_awaited(fd));
}

/* Submitted, and waiting: cancelled, it ends. */
static int64_t cancelled(struct iocb2 *iocb)
{
    union event_room room;

    iocb->data = 77;
    submit_one(ctx, iocb);
    wait_until_waits(iocb);
    CHECK_EQ(CALL(io_cancel2(ctx, 77)), 0);
    get_one(ctx, &room.event);
    CHECK_EQ(room.event.data, 77);
    CHECK_EQ(CALL(io_cancel2(ctx, 77)), -ENOENT);
    return room.event.res;
}

static void *handler_of(int sig)
{
    struct sigaction now;

    if (sigaction(sig, NULL, &now) != 0)
        return NULL;
    return (void *)(uintptr_t)now.sa_handler;
}

static volatile sig_atomic_t handled;

static void handler(int sig)
{
    (void)sig;
    handled++;
}

static void all_kinds(void)
{
    static char big[1 << 20];
    char byte, path[] = "/tmp/cancel_running.XXXXXX";
    uint32_t word = 0;
    struct iovec iov = { &byte, 1 };
    struct timespec long_time = { 1000, 0 };
    int ends[2], sockets[2];
    struct iocb2 iocb;

    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    CHECK_EQ(bind(listener, (struct sockaddr *)&address, sizeof(sa_family_t)), 0);
    CHECK_EQ(listen(listener, 1), 0);

    io_prep2_preadv2(&iocb, ends[0], &iov, 1, -1, 0);
    CHECK_EQ(cancelled(&iocb), -EINTR);
    io_prep2_syscall(&iocb, SYS_read, (uint64_t)ends[0], (uintptr_t)&byte, 1, 0, 0, 0);
    CHECK_EQ(cancelled(&iocb), -EINTR);
    io_prep2_syscall(&iocb, SYS_recvfrom, (uint64_t)sockets[0], (uintptr_t)&byte, 1, 0, 0, 0);
    CHECK_EQ(cancelled(&iocb), -EINTR);
    io_prep2_syscall(&iocb, SYS_accept4, (uint64_t)listener, 0, 0, 0, 0, 0);
    CHECK_EQ(cancelled(&iocb), -EINTR);
    io_prep2_syscall(&iocb, SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, (uintptr_t)&long_time, 0, 0, 0);
    CHECK_EQ(cancelled(&iocb), -EINTR);
    io_prep2_syscall(&iocb, SYS_futex, (uintptr_t)&word, FUTEX_WAIT, 0, 0, 0, 0);
    CHECK_EQ(cancelled(&iocb), -EINTR);
    struct pollfd poller = { .fd = ends[0], .events = POLLIN };
    io_prep2_syscall(&iocb, SYS_ppoll, (uintptr_t)&poller, 1, 0, 0, 8, 0);
    CHECK_EQ(cancelled(&iocb), -EINTR);

    int one = mkostemp(path, O_CLOEXEC), other = open(path, O_RDWR | O_CLOEXEC);
    CHECK(one >= 0 && other >= 0);
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(flock(one, LOCK_EX), 0);
    io_prep2_syscall(&iocb, SYS_flock, (uint64_t)other, LOCK_EX, 0, 0, 0, 0);
    CHECK_EQ(cancelled(&iocb), -EINTR);

    /* As much as the pipe takes, and then it waits. */
    io_prep2_syscall(&iocb, SYS_write, (uint64_t)ends[1], (uintptr_t)big, sizeof(big), 0, 0, 0);
    int64_t moved = cancelled(&iocb);
    CHECK_CMP(moved, >, 0);
    CHECK_CMP(moved, <, (int64_t)sizeof(big));
    CHECK_EQ(read(ends[0], big, sizeof(big)), moved);
    for (int i = 0; i < 2; i++) {
        close(ends[i]);
        close(sockets[i]);
    }
    close(listener);
    close(one);
    close(other);
}

/*
 * At a random moment, also before the call or, if it `waits` already, when what it waits for has just come: there is one event, and it
 * comes. What the worker does next is not disturbed.
 */
static void at_any_time(uint64_t all, bool waits)
{
    uint64_t rng = 7;
    int ends[2];

    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    for (uint64_t round = 0; round < all; round++) {
        union event_room room;
        struct iocb2 iocb;
        char byte = 0;
        bool byte_comes = waits || rng_below(&rng, 4) == 0;

        io_prep2_syscall(&iocb, SYS_read, (uint64_t)ends[0], (uintptr_t)&byte, 1, 0, 0, 0);
        iocb.data = round;
        submit_one(ctx, &iocb);
        if (waits)
            wait_until_waits(&iocb);
        for (uint64_t spin = waits ? 0 : rng_below(&rng, 3000); spin > 0; spin--)
            __asm__ volatile("");
        if (byte_comes)
            CHECK_EQ(write(ends[1], "x", 1), 1);
        for (uint64_t spin = waits ? rng_below(&rng, 30000) : 0; spin > 0; spin--)
            __asm__ volatile("");
        int ret = io_cancel2(ctx, round);
        CHECK(ret == 0 || (ret == -ENOENT && byte_comes));
        get_one(ctx, &room.event);
        CHECK_EQ(room.event.data, round);
        if (room.event.res == 1) {
            CHECK(byte_comes);
        } else {
            CHECK(room.event.res == -EINTR || room.event.res == -ECANCELED);
            if (byte_comes) {
                /* This one must get it, undisturbed by the signal that was sent before. */
                iocb.data = UINT64_MAX;
                submit_one(ctx, &iocb);
                get_one(ctx, &room.event);
                CHECK_EQ(room.event.data, UINT64_MAX);
                CHECK_EQ(room.event.res, 1);
            }
        }
    }
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    void *before[65];
    int changed = 0;
    int ours = 0;

    CHECK(signal(SIGRTMAX, handler) != SIG_ERR);
    for (int sig = 1; sig <= 64; sig++)
        before[sig] = handler_of(sig);
    ctx = setup2(0, 0, 0);
    all_kinds();
    for (int sig = 1; sig <= 64; sig++) {
        if (handler_of(sig) != before[sig]) {
            CHECK_CMP(sig, >=, SIGRTMIN);
            CHECK_CMP(sig, <, SIGRTMAX);
            ours = sig;
            changed++;
        }
    }
    CHECK_EQ(changed, 1);
    at_any_time(20000, false);
    at_any_time(4000, true);

    /* The program takes it away: another one is found for what begins then, and the program's handler is not called. */
    CHECK(signal(ours, handler) != SIG_ERR);
    all_kinds();
    CHECK_EQ(handled, 0);
    CHECK_EQ(raise(ours), 0);
    CHECK_EQ(handled, 1);
    CHECK_EQ(ctx->submitted, ctx->completed);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
