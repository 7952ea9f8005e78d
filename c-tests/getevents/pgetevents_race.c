/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A signal that io_pgetevents2()'s mask lets through is never missed, whenever it arrives: before the call, on
 * the way into it, or while it waits. A missed one would leave the call waiting for ever.
 */
#include "test.h"

enum { ROUNDS = 5000 };

static volatile sig_atomic_t handled;
static int round_number;
static int answered;

static void on_signal(int sig)
{
    (void)sig;
    handled = handled + 1;
}

static void spin(unsigned int n)
{
    for (volatile unsigned int i = 0; i < n; i++)
        ;
}

/* One signal for each round, at a moment that moves through the call. */
static void *sender(void *arg)
{
    const pid_t process = getpid();

    (void)arg;
    for (int i = 1; i <= ROUNDS; i++) {
        while (__atomic_load_n(&round_number, __ATOMIC_ACQUIRE) < i)
            sched_yield();
        spin((unsigned int)(i * 7919 % 6000));
        CHECK_EQ(syscall(SYS_tgkill, process, process, SIGUSR1), 0);
        while (__atomic_load_n(&answered, __ATOMIC_ACQUIRE) < i)
            sched_yield();
    }
    return NULL;
}

int main(void)
{
    io_context2_t ctx = setup2(0, 0, 0);
    union event_room room;
    struct sigaction action;
    pthread_t thread;
    sigset_t usr1;
    sigset_t none;

    memset(&action, 0, sizeof(action));
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    sigemptyset(&none);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, &usr1, NULL), 0);

    thread = thread_start(sender, NULL);
    for (int i = 1; i <= ROUNDS; i++) {
        struct timespec limit = { 10, 0 };

        handled = 0;
        __atomic_store_n(&round_number, i, __ATOMIC_RELEASE);
        spin((unsigned int)(i * 104729 % 3000));
        CHECK_EQ(CALL(io_pgetevents2(ctx, 24, &room.event, sizeof(room), &limit, &none)), -EINTR);
        CHECK_EQ(handled, 1);
        __atomic_store_n(&answered, i, __ATOMIC_RELEASE);
    }
    thread_join(thread);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
