/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A thread that has a descriptor table of its own (unshare(2), CLONE_FILES) sleeps with a signal mask, and a worker wakes it.
 */
#include "test.h"
#include <sched.h>

enum { EVENTS = 3 };

static void *sleeps(void *ctx)
{
    struct timespec limit = timespec_ns(PATIENCE_NS);
    struct io_event2 event;
    sigset_t none;

    CHECK_EQ(unshare(CLONE_FILES), 0);
    sigemptyset(&none);
    for (int i = 0; i < EVENTS; i++) {
        int64_t began = now_ns();

        CHECK_EQ(CALL(io_pgetevents2(ctx, sizeof(event), &event, sizeof(event), &limit, &none)), sizeof(event));
        CHECK_CMP(now_ns() - began, <, PATIENCE_NS);
    }
    return NULL;
}

int main(void)
{
    struct timespec pause = timespec_ns(NSEC_PER_MSEC);
    io_context2_t ctx = setup2(4096, 0, 0);
    pthread_t thread = thread_start(sleeps, ctx);
    struct iocb2 iocb;

    io_prep2_syscall(&iocb, SYS_nanosleep, (uint64_t)(uintptr_t)&pause, 0, 0, 0, 0, 0);
    for (int i = 0; i < EVENTS; i++) {
        sleep_ms(50);
        submit_one(ctx, &iocb);
    }
    thread_join(thread);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
