/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * io_pgetevents2()'s mask is in force while it waits. A signal that the thread blocks and the mask does not ends the wait with
 * -EINTR, also if it was pending before. A signal that the mask blocks does not. Afterwards the thread has its own mask again.
 */
#include "test.h"

static io_context2_t ctx;
static union event_room room;
static volatile sig_atomic_t handled;
static volatile sig_atomic_t usr2_blocked_in_handler;
static sigset_t nothing;
static sigset_t blocked;

static void on_signal(int sig)
{
    sigset_t now;

    (void)sig;
    handled = handled + 1;
    if (pthread_sigmask(SIG_SETMASK, NULL, &now) == 0)
        usr2_blocked_in_handler = sigismember(&now, SIGUSR2);
}

static void *signal_main(void *arg)
{
    wait_thread_asleep(getpid());
    CHECK_EQ(syscall(SYS_tgkill, getpid(), getpid(), *(int *)arg), 0);
    return NULL;
}

static void *nop_later(void *arg)
{
    struct iocb2 iocb;

    (void)arg;
    wait_thread_asleep(getpid());
    io_prep2_nop(&iocb);
    submit_one(ctx, &iocb);
    return NULL;
}

/* The thread's mask is what the test set it to. */
static void check_mask(void)
{
    sigset_t now;

    CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &now), 0);
    for (int sig = 1; sig <= SIGRTMAX; sig++) {
        if (sig == 32 || sig == 33)
            continue; /* the C library's own */
        if (sigismember(&now, sig) != sigismember(&blocked, sig))
            FAIL("signal %d: blocked before %d, after %d", sig, sigismember(&blocked, sig), sigismember(&now, sig));
    }
}

int main(void)
{
    struct timespec minute = { 60, 0 };
    struct timespec zero = { 0, 0 };
    struct timespec *limits[] = { NULL, &minute };
    struct sigaction action;
    struct timespec t;
    struct iocb2 iocb;
    pthread_t thread;
    sigset_t all;
    sigset_t only_usr2;
    int usr1 = SIGUSR1;
    int64_t began;

    ctx = setup2(0, 0, 0);
    io_prep2_nop(&iocb);
    sigemptyset(&nothing);
    sigfillset(&all);
    sigemptyset(&only_usr2);
    sigaddset(&only_usr2, SIGUSR2);

    /* The thread blocks SIGUSR1, and others so that the mask's return shows. */
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &blocked), 0);
    sigaddset(&blocked, SIGUSR1);
    sigaddset(&blocked, SIGHUP);
    sigaddset(&blocked, SIGRTMAX);
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, &blocked, NULL), 0);

    for (int restart = 0; restart < 2; restart++) {
        memset(&action, 0, sizeof(action));
        action.sa_handler = on_signal;
        action.sa_flags = restart ? SA_RESTART : 0;
        CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);

        for (int limit = 0; limit < 2; limit++) {
            /* Pending before the call. */
            handled = 0;
            CHECK_EQ(pthread_kill(pthread_self(), SIGUSR1), 0);
            CHECK_EQ(handled, 0);
            CHECK_EQ(CALL(io_pgetevents2(ctx, 24, &room.event, sizeof(room), limits[limit], &nothing)), -EINTR);
            CHECK_EQ(handled, 1);
            check_mask();

            /* Pending for the process, not for the thread. */
            handled = 0;
            CHECK_EQ(kill(getpid(), SIGUSR1), 0);
            CHECK_EQ(CALL(io_pgetevents2(ctx, 24, &room.event, sizeof(room), limits[limit], &nothing)), -EINTR);
            CHECK_EQ(handled, 1);
            check_mask();

            /* Sent while it waits; the handler runs under the mask of the call. */
            handled = 0;
            usr2_blocked_in_handler = 0;
            thread = thread_start(signal_main, &usr1);
            CHECK_EQ(CALL(io_pgetevents2(ctx, 24, &room.event, sizeof(room), limits[limit], &only_usr2)), -EINTR);
            thread_join(thread);
            CHECK_EQ(handled, 1);
            CHECK_EQ(usr2_blocked_in_handler, 1);
            check_mask();

            /* Something was copied: that is returned. */
            submit_one(ctx, &iocb);
            CHECK_SOON(__atomic_load_n(&ctx->completed, __ATOMIC_ACQUIRE) == ctx->submitted);
            handled = 0;
            thread = thread_start(signal_main, &usr1);
            CHECK_EQ(CALL(io_pgetevents2(ctx, 48, &room.event, sizeof(room), limits[limit], &nothing)), 24);
            thread_join(thread);
            CHECK_EQ(handled, 1);
            check_mask();
        }
    }

    /* Pending, and a call that does not wait: the handler runs, and nothing was copied. */
    handled = 0;
    CHECK_EQ(pthread_kill(pthread_self(), SIGUSR1), 0);
    CHECK_EQ(CALL(io_pgetevents2(ctx, 24, &room.event, sizeof(room), &zero, &nothing)), -EINTR);
    CHECK_EQ(handled, 1);
    check_mask();

    handled = 0;
    CHECK_EQ(pthread_kill(pthread_self(), SIGUSR1), 0);
    CHECK_EQ(CALL(io_pgetevents2(ctx, 0, &room.event, sizeof(room), NULL, &nothing)), -EINTR);
    CHECK_EQ(handled, 1);
    check_mask();

    /* Pending, and an event is there: the event is returned, the signal is not lost. */
    submit_one(ctx, &iocb);
    CHECK_SOON(__atomic_load_n(&ctx->completed, __ATOMIC_ACQUIRE) == ctx->submitted);
    handled = 0;
    CHECK_EQ(pthread_kill(pthread_self(), SIGUSR1), 0);
    CHECK_EQ(CALL(io_pgetevents2(ctx, 24, &room.event, sizeof(room), NULL, &nothing)), 24);
    check_mask();
    if (handled == 0)
        CHECK_EQ(CALL(io_pgetevents2(ctx, 24, &room.event, sizeof(room), NULL, &nothing)), -EINTR);
    CHECK_EQ(handled, 1);
    check_mask();

    /* A signal that the mask blocks and the thread does not: no interruption, and it is handled on the way out. */
    sigdelset(&blocked, SIGUSR1);
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, &blocked, NULL), 0);
    handled = 0;
    t = timespec_ns(400 * NSEC_PER_MSEC);
    thread = thread_start(signal_main, &usr1);
    began = now_ns();
    CHECK_EQ(CALL(io_pgetevents2(ctx, 24, &room.event, sizeof(room), &t, &all)), 0);
    CHECK_CMP(now_ns() - began, >=, 400 * NSEC_PER_MSEC);
    thread_join(thread);
    CHECK_EQ(handled, 1);
    check_mask();

    /* The mask is back after every way out. */
    CHECK_EQ(CALL(io_pgetevents2(ctx, 24, &room.event, sizeof(room), &zero, &all)), 0);
    check_mask();
    CHECK_EQ(CALL(io_pgetevents2(ctx, 0, &room.event, sizeof(room), NULL, &all)), 0);
    check_mask();
    CHECK_EQ(CALL(io_pgetevents2(ctx, 25, &room.event, 24, NULL, &all)), -EINVAL);
    check_mask();
    CHECK_EQ(CALL(io_pgetevents2(NULL, 24, &room.event, 24, NULL, &all)), -EINVAL);
    check_mask();
    submit_one(ctx, &iocb);
    CHECK_EQ(CALL(io_pgetevents2(ctx, 24, &room.event, sizeof(room), NULL, &all)), 24);
    check_mask();
    submit_one(ctx, &iocb);
    CHECK_EQ(CALL(io_pgetevents2(ctx, 8, &room.event, 16, NULL, &all)), -ENOBUFS);
    check_mask();
    CHECK_EQ(CALL(io_pgetevents2(ctx, 24, &room.event, 24, NULL, &all)), 24);
    thread = thread_start(nop_later, NULL);
    CHECK_EQ(CALL(io_pgetevents2(ctx, 24, &room.event, sizeof(room), NULL, &all)), 24);
    thread_join(thread);
    check_mask();
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
