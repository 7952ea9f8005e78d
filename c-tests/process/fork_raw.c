/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A child made by the bare system call, past the C library's fork handlers: the inherited handles are -EINVAL there, too,
 * whatever the parent's threads did at that time, and the parent loses nothing.
 */
#include "test.h"
#include "stress.h"

#define CHILDREN 2000

static io_context2_t ctx;
static bool stop;
static uint64_t submitted;
static uint64_t reaped;

static void *worker(void *arg)
{
    (void)arg;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        struct io_event2 events[32];

        submit_nops(ctx, 0, 32);
        submitted += 32;
        (void)get_events(ctx, 32, events, sizeof(events));
        reaped += 32;
    }
    return NULL;
}

/*
 * Nothing of the C library but system calls: a lock of its own may be held for ever here. So no CHECK,
 * and the exit status says which call failed.
 */
static void __attribute__((noreturn)) child(io_context2_t inherited)
{
    struct io_event2 events[4];
    struct timespec second = { .tv_sec = 1, .tv_nsec = 0 };
    struct iocb2 iocb;
    int failed = 0;

    alarm(3 * PATIENCE_S);
    io_prep2_nop(&iocb);
    if (io_submit2(inherited, &iocb, sizeof(iocb)) != -EINVAL)
        failed = 10;
    else if (io_getevents2(inherited, 0, events, sizeof(events), NULL) != -EINVAL)
        failed = 11;
    else if (io_getevents2(inherited, 24, events, sizeof(events), &second) != -EINVAL)
        failed = 12;
    else if (io_pgetevents2(inherited, 24, events, sizeof(events), NULL, NULL) != -EINVAL)
        failed = 13;
    else if (io_cancel2(inherited, 1) != -EINVAL)
        failed = 14;
    else if (io_ring_fd2(inherited) != -EINVAL)
        failed = 15;
    else if (io_destroy2(inherited) != -EINVAL)
        failed = 16;
    else if (io_submit2(NULL, &iocb, sizeof(iocb)) != -EINVAL)
        failed = 17;
    _exit(failed);
}

int main(void)
{
    pthread_t thread;
    union event_room room;

    ctx = setup2(4096, 0, 0);
    thread = thread_start(worker, NULL);
    for (int i = 0; i < CHILDREN; i++) {
        pid_t pid;
        int status = 0;

        pid = (pid_t)(i % 2 == 0 ? syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) : syscall(SYS_fork));
        CHECK(pid >= 0);
        if (pid == 0)
            child(ctx);
        CHECK_EQ(waitpid(pid, &status, 0), pid);
        if (status != 0)
            FAIL("child %d: status %#x (%s %d)", i, (unsigned int)status, WIFEXITED(status) ? "failed step" : "signal",
                 WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    thread_join(thread);
    CHECK_EQ(submitted, reaped);
    CHECK_RING_DRAINED(ctx, submitted);
    submit_nops(ctx, 1, 1);
    get_one(ctx, &room);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
