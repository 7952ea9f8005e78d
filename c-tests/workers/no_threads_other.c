/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * No thread can be created for a request that may wait for ever, and its caller sleeps in io_getevents2() without a time limit
 * when its file becomes ready: the caller carries it out, although a thread was created meanwhile for other requests, or the
 * creation of one for another context's request failed while the caller slept. A request that waits for a caller's to end, because the
 * context has a limit, is carried out, too.
 */
#include "test.h"
#include "stress.h"
#include "thread_hook.h"

struct sleeper {
    io_context2_t ctx;
    pid_t tid;
    struct io_event2 event;
};

static void *get_event(void *arg)
{
    struct sleeper *sleeper = arg;

    __atomic_store_n(&sleeper->tid, my_tid(), __ATOMIC_RELEASE);
    CHECK_EQ(CALL(io_getevents2(sleeper->ctx, sizeof(sleeper->event), &sleeper->event, sizeof(sleeper->event), NULL)),
             sizeof(sleeper->event));
    return NULL;
}

static void allow(int more)
{
    __atomic_store_n(&allowed, more, __ATOMIC_RELAXED);
}

/* A thread that sleeps in io_getevents2(). */
static pthread_t sleep_in(struct sleeper *sleeper, io_context2_t ctx)
{
    pthread_t thread;

    sleeper->ctx = ctx;
    allow(1);
    thread = thread_start(get_event, sleeper);
    CHECK_SOON(__atomic_load_n(&sleeper->tid, __ATOMIC_ACQUIRE) != 0);
    CHECK_SOON(thread_state(sleeper->tid) == 'S');
    return thread;
}

static void check_carried_out(struct hold *hold, struct sleeper *sleeper, pthread_t thread)
{
    hold_release(hold);
    thread_join(thread);
    CHECK_EQ(sleeper->event.data, 77);
    CHECK_EQ(sleeper->event.res, 1);
    hold_close(hold);
}

/* A thread is created for other requests meanwhile. */
static void another_thread(void)
{
    io_context2_t ctx = setup2(64, 0, 0);
    io_context2_t other = setup2(64, 0, 0);
    struct sleeper sleeper = { 0 };
    struct io_event2 event;
    struct hold hold;
    pthread_t thread;

    allow(0);
    hold_submit(ctx, &hold, 77);
    CHECK_CMP(failures, >, 0);
    allow(1);
    submit_nops(other, 5, 1);
    CHECK_EQ(count_threads(), 2);
    (void)get_events(other, 1, &event, sizeof(event));
    thread = sleep_in(&sleeper, ctx);
    check_carried_out(&hold, &sleeper, thread);
    CHECK_EQ(CALL(io_destroy2(other)), 0);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
}

/* The caller sleeps already when creations begin to fail, at another context's request. */
static void another_failure(void)
{
    io_context2_t ctx = setup2(64, 0, 0);
    io_context2_t other = setup2(64, 0, 0);
    struct sleeper sleeper = { 0 };
    struct hold hold, first;
    pthread_t thread = sleep_in(&sleeper, ctx);

    allow(0);
    hold_submit(other, &first, 5);
    hold_submit(ctx, &hold, 77);
    CHECK_EQ(count_threads(), 2);
    check_carried_out(&hold, &sleeper, thread);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    CHECK_EQ(CALL(io_destroy2(other)), 0);
    hold_close(&first);
}

/* One request runs at a time. A caller is carrying the first one out when the second is submitted. */
static void a_limit(void)
{
    io_context2_t ctx = setup2(64, 0, 1);
    io_context2_t other = setup2(64, 0, 0);
    struct sleeper sleeper = { 0 };
    struct hard_hold memory;
    struct hold hold, kept;
    struct iocb2 write;
    int fd = temp_file(0, 0);
    long nr = SYS_preadv2;
    pthread_t thread;
    char tid[32];

    /* Another context's request keeps the only worker. */
    allow(1);
    hold_submit(other, &kept, 5);
    hold_wait_running(1);
    allow(0);
    hard_hold_memory(&memory);
    hold_init(&hold, 77);
    hold.iov.iov_base = memory.page;
    submit_one(ctx, &hold.iocb);
    thread = sleep_in(&sleeper, ctx);
    allow(0);
    hold_release(&hold);
    snprintf(tid, sizeof(tid), "%d", (int)sleeper.tid);
    CHECK_SOON(test_worker_in_call(tid, &nr));
    io_prep2_pwrite(&write, fd, "x", 1, 0);
    submit_one(ctx, &write);
    CHECK_EQ(ring_completed(ctx), 0);
    hard_hold_release(&memory);
    thread_join(thread);
    CHECK_EQ(sleeper.event.data, 77);
    CHECK_SOON(ring_completed(ctx) == 2);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    CHECK_EQ(CALL(io_destroy2(other)), 0);
    hold_close(&kept);
    hold_close(&hold);
    hard_hold_close(&memory);
}

int main(void)
{
    static void (*const cases[])(void) = { another_thread, another_failure, a_limit };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        /* Each in a process of its own, without workers from before. */
        pid_t pid = fork();

        CHECK(pid >= 0);
        if (pid == 0) {
            alarm(3 * PATIENCE_S);
            cases[i]();
            exit(0);
        }
        wait_child(pid);
    }
    return 0;
}
