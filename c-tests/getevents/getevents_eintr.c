/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * io_getevents2() returns -EINTR if a signal handler ran while it waited and nothing was copied, with SA_RESTART and without,
 * with a timeout and without. If something was copied, it returns that. Nothing else interrupts it.
 */
#include "test.h"

static io_context2_t ctx;
static union event_room room;
static volatile sig_atomic_t handled;

static void on_signal(int sig)
{
    (void)sig;
    handled = handled + 1;
}

static void *signal_main(void *arg)
{
    wait_thread_asleep(getpid());
    /* To the thread that waits: tgkill(). */
    CHECK_EQ(syscall(SYS_tgkill, getpid(), getpid(), *(int *)arg), 0);
    return NULL;
}

/* Stops and continues the whole process from outside. */
static pid_t stop_and_continue(void)
{
    const pid_t parent = getpid();
    pid_t child = fork();

    CHECK(child >= 0);
    if (child == 0) {
        sleep_ms(100);
        kill(parent, SIGSTOP);
        sleep_ms(100);
        kill(parent, SIGCONT);
        _exit(0);
    }
    return child;
}

int main(void)
{
    struct timespec minute = { 60, 0 };
    struct timespec short_time;
    struct sigaction action;
    struct iocb2 iocb;
    pthread_t thread;
    int sig = SIGUSR1;
    int64_t began;
    pid_t child;

    ctx = setup2(0, 0, 0);
    io_prep2_nop(&iocb);

    for (int restart = 0; restart < 2; restart++) {
        memset(&action, 0, sizeof(action));
        action.sa_handler = on_signal;
        action.sa_flags = restart ? SA_RESTART : 0;
        CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);

        for (int limit = 0; limit < 2; limit++) {
            const struct timespec *timeout = limit ? &minute : NULL;

            /* Nothing copied. */
            handled = 0;
            thread = thread_start(signal_main, &sig);
            CHECK_EQ(CALL(io_getevents2(ctx, 24, &room.event, sizeof(room), timeout)), -EINTR);
            thread_join(thread);
            CHECK_EQ(handled, 1);

            handled = 0;
            thread = thread_start(signal_main, &sig);
            CHECK_EQ(CALL(io_pgetevents2(ctx, 24, &room.event, sizeof(room), timeout, NULL)), -EINTR);
            thread_join(thread);
            CHECK_EQ(handled, 1);

            /* One event is there, two are asked for: the signal ends the wait, the event is returned. */
            iocb.data = 7;
            submit_one(ctx, &iocb);
            CHECK_SOON(__atomic_load_n(&ctx->completed, __ATOMIC_ACQUIRE) == ctx->submitted);
            handled = 0;
            room.event.data = 0;
            thread = thread_start(signal_main, &sig);
            CHECK_EQ(CALL(io_getevents2(ctx, 48, &room.event, sizeof(room), timeout)), 24);
            thread_join(thread);
            CHECK_EQ(handled, 1);
            CHECK_EQ(room.event.data, 7);
        }
    }

    /* A signal that is ignored, and one whose default is to be ignored, do not end the wait. */
    action.sa_handler = SIG_IGN;
    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    const int ignored[] = { SIGUSR1, SIGWINCH, SIGURG, SIGCONT };

    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++) {
        sig = ignored[i];
        short_time = timespec_ns(400 * NSEC_PER_MSEC);
        thread = thread_start(signal_main, &sig);
        began = now_ns();
        CHECK_EQ(CALL(io_getevents2(ctx, 24, &room.event, sizeof(room), &short_time)), 0);
        CHECK_CMP(now_ns() - began, >=, 400 * NSEC_PER_MSEC);
        thread_join(thread);
    }

    /* Nor does a blocked one. It is handled when it is unblocked. */
    sigset_t usr1;
    sigset_t old;

    action.sa_handler = on_signal;
    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, &usr1, &old), 0);
    sig = SIGUSR1;
    handled = 0;
    short_time = timespec_ns(400 * NSEC_PER_MSEC);
    thread = thread_start(signal_main, &sig);
    began = now_ns();
    CHECK_EQ(CALL(io_getevents2(ctx, 24, &room.event, sizeof(room), &short_time)), 0);
    CHECK_CMP(now_ns() - began, >=, 400 * NSEC_PER_MSEC);
    thread_join(thread);
    CHECK_EQ(handled, 0);
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, &old, NULL), 0);
    CHECK_EQ(handled, 1);

    /* Being stopped and continued is no handler. */
    child = stop_and_continue();
    short_time = timespec_ns(600 * NSEC_PER_MSEC);
    began = now_ns();
    CHECK_EQ(CALL(io_getevents2(ctx, 24, &room.event, sizeof(room), &short_time)), 0);
    CHECK_CMP(now_ns() - began, >=, 600 * NSEC_PER_MSEC);
    wait_child(child);

    child = stop_and_continue();
    short_time = timespec_ns(600 * NSEC_PER_MSEC);
    began = now_ns();
    CHECK_EQ(CALL(io_pgetevents2(ctx, 24, &room.event, sizeof(room), &short_time, &old)), 0);
    CHECK_CMP(now_ns() - began, >=, 600 * NSEC_PER_MSEC);
    wait_child(child);

    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
