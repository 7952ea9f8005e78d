/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The calls are not cancellation points, as libaio's are not. A thread with pthread_cancel() pending returns from each, also
 * from a long wait, and is cancelled later, at a cancellation point of its own.
 */
#include "test.h"

static io_context2_t ctx;
static pid_t waiter_tid;
static ssize_t waited;
static int passed;

static void *waiter(void *arg)
{
    union event_room room;
    sigset_t none;

    sigemptyset(&none);
    __atomic_store_n(&waiter_tid, my_tid(), __ATOMIC_RELEASE);
    if (arg != NULL)
        waited = io_pgetevents2(ctx, 24, &room.event, sizeof(room), NULL, &none);
    else
        waited = io_getevents2(ctx, 24, &room.event, sizeof(room), NULL);
    pthread_testcancel();
    return NULL;
}

/* Every call, while a cancellation is pending. */
static void *caller(void *arg)
{
    struct io_setup2_params params = params2();
    struct timespec short_time = { 0, 20000000 };
    io_context2_t mine = NULL;
    union event_room room;
    struct hold hold;
    struct iocb2 iocb;
    char byte = 0;
    sigset_t none;
    int state;
    int efd;
    int fd;

    (void)arg;
    /* The actions of this thread in between must not end it. */
    CHECK_EQ(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state), 0);
    sigemptyset(&none);
    efd = eventfd(0, EFD_CLOEXEC);
    fd = temp_file(4096, 0);
    params.eventfd = efd;
    params.workers = 1;
    CHECK_EQ(pipe2(hold.pipe, O_CLOEXEC), 0);
    make_blocking(&hold.pipe[0]);
    hold.iov.iov_base = &byte;
    hold.iov.iov_len = 1;
    CHECK_EQ(pthread_cancel(pthread_self()), 0);

#define ENABLED(call, expected)                                                  \
    do {                                                                         \
        long long result_;                                                       \
        CHECK_EQ(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state), 0);      \
        result_ = (call);                                                        \
        CHECK_EQ(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state), 0);     \
        CHECK_EQ(result_, expected);                                             \
        passed++;                                                                \
    } while (0)

    ENABLED(io_setup2(2, &params, &mine), 0);
    io_prep2_preadv2(&iocb, hold.pipe[0], &hold.iov, 1, -1, 0);
    iocb.data = 1;
    ENABLED(io_submit2(mine, &iocb, 64), 64);
    /* The one worker is in that read before the next request is there: it would take a short request first. */
    hold_wait_running(1);
    io_prep2_nop(&iocb);
    iocb.data = 2;
    ENABLED(io_submit2(mine, &iocb, 64), 64);
    ENABLED(io_cancel2(mine, 2), 0);
    ENABLED(io_getevents2(mine, 24, &room.event, sizeof(room), NULL), 24);
    ENABLED(io_getevents2(mine, 24, &room.event, sizeof(room), &short_time), 0);
    ENABLED(io_pgetevents2(mine, 24, &room.event, sizeof(room), &short_time, &none), 0);
    io_prep2_pread(&iocb, fd, &byte, 1, 0);
    ENABLED(io_issue2(&iocb, &room.event, sizeof(room)), 24);
    CHECK_EQ(room.event.res, 1);
    ENABLED(io_ring_fd2(mine) >= 0, 1);
    hold_release(&hold);
    ENABLED(io_pgetevents2(mine, 24, &room.event, sizeof(room), NULL, &none), 24);
    ENABLED(io_destroy2(mine), 0);
    CHECK_EQ(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state), 0);
    pthread_testcancel();
    return NULL;
}

int main(void)
{
    struct iocb2 iocb;
    pthread_t thread;
    void *result;
    int with_mask = 1;

    ctx = setup2(0, 0, 0);
    io_prep2_nop(&iocb);

    for (int i = 0; i < 2; i++) {
        waiter_tid = 0;
        waited = -1;
        thread = thread_start(waiter, i == 0 ? NULL : &with_mask);
        CHECK_SOON(__atomic_load_n(&waiter_tid, __ATOMIC_ACQUIRE) != 0);
        wait_thread_asleep(waiter_tid);
        CHECK_EQ(pthread_cancel(thread), 0);
        sleep_ms(100);
        /* Still there, still waiting. */
        CHECK_EQ(thread_state(waiter_tid), 'S');
        submit_one(ctx, &iocb);
        CHECK_EQ(pthread_join(thread, &result), 0);
        CHECK_EQ(waited, 24);
        CHECK(result == PTHREAD_CANCELED);
    }

    thread = thread_start(caller, NULL);
    CHECK_EQ(pthread_join(thread, &result), 0);
    CHECK_EQ(passed, 11);
    CHECK(result == PTHREAD_CANCELED);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
