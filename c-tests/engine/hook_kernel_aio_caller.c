/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A caller that comes back soon after each wait hands its O_DIRECT requests over to the kernel's AIO itself, and sleeps there.
 * All other things that happen to its context must wake it: other requests, a signal handler, the timeout, io_destroy2().
 * Events that it does not take come to the next caller, by every function for that. No event is lost or comes twice. A forked
 * child inherits none of this, and a thread whose seccomp filter does not know the calls does not use it.
 *
 * The device is a loop device on a file system that can be frozen: then its writes do not complete.
 */
/* needs: kernel AIO */
/* needs: root */
#include "test.h"
#include "stress.h"
#include "device.h"
#include "frozen.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>

#define DEVICE_BYTES FROZEN_BYTES
#define BLOCK 512
#define DEPTH 32

static unsigned char *memory;

/* ---- The caller that sleeps there -------------------------------------------------------------- */

/* Whether an epoll of the library's waits for that descriptor: then it is what its reaper is told by. */
static bool is_waited_for(int fd)
{
    for (int epoll = 192; epoll < 256; epoll++) {
        char path[64], line[256];

        snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", epoll);
        FILE *info = fopen(path, "r");
        if (info == NULL)
            continue;
        bool found = false;
        while (fgets(line, sizeof(line), info) != NULL) {
            int tfd;

            found = found || (sscanf(line, "tfd: %d", &tfd) == 1 && tfd == fd);
        }
        fclose(info);
        if (found)
            return true;
    }
    return false;
}

static int count_bells(bool close_them)
{
    int count = 0;

    for (int fd = 192; fd < 256; fd++) {
        char path[64], target[64] = "";

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        if (readlink(path, target, sizeof(target) - 1) > 0 && strcmp(target, "anon_inode:[eventfd]") == 0 &&
            !is_waited_for(fd)) {
            count++;
            if (close_them)
                close(fd);
        }
    }
    return count;
}

/* Numbers of writes: each is used again when its write has ended, which it does once. */
#define NUMBERS (1 << 16)
static bool in_flight[NUMBERS];
/* The number of something else. */
#define OTHER NUMBERS

/* One that keeps DEPTH writes in flight, until it gets the event of something else, or an error. */
struct writer {
    io_context2_t ctx;
    /* How many writes it makes. */
    uint64_t most;
    uint64_t submitted, done;
    pthread_t thread;
    pid_t tid;
    /* Somebody may destroy the context. */
    bool may_be_gone;
    /* What it has got in the end. */
    struct io_event2 event;
    ssize_t ret;
};

static void note(struct writer *writer, const struct io_event2 *event)
{
    CHECK_EQ(event->res, BLOCK);
    CHECK_CMP(event->data, <, NUMBERS);
    CHECK(in_flight[event->data]);
    in_flight[event->data] = false;
    __atomic_store_n(&writer->done, writer->done + 1, __ATOMIC_RELAXED);
}

static void submit_writes(struct writer *writer)
{
    struct iocb2 iocbs[DEPTH];
    size_t n = 0;

    for (; writer->submitted - writer->done < DEPTH && writer->submitted < writer->most; n++) {
        size_t at = writer->submitted % (DEVICE_BYTES / BLOCK) * BLOCK;

        io_prep2_pwrite(&iocbs[n], device, memory + at, BLOCK, (int64_t)at);
        iocbs[n].data = writer->submitted++ % NUMBERS;
        CHECK(!in_flight[iocbs[n].data]);
        in_flight[iocbs[n].data] = true;
    }
    if (n != 0 && !writer->may_be_gone)
        submit_all(writer->ctx, iocbs, n * sizeof(iocbs[0]));
    else if (n != 0)
        io_submit2(writer->ctx, iocbs, n * sizeof(iocbs[0]));
}

static void *writes(void *arg)
{
    struct writer *writer = arg;

    __atomic_store_n(&writer->tid, my_tid(), __ATOMIC_RELEASE);
    while (writer->done < writer->most) {
        struct io_event2 events[DEPTH];

        submit_writes(writer);
        writer->ret = io_getevents2(writer->ctx, sizeof(events[0]), events, sizeof(events), NULL);
        if (writer->ret < 0)
            break;
        for (size_t i = 0; i < (size_t)writer->ret / sizeof(events[0]); i++) {
            if (events[i].data >= NUMBERS)
                writer->event = events[i];
            else
                note(writer, &events[i]);
        }
        if (writer->event.data != 0)
            break;
    }
    return NULL;
}

static void start(struct writer *writer, io_context2_t ctx, uint64_t most)
{
    memset(in_flight, 0, sizeof(in_flight));
    memset(writer, 0, sizeof(*writer));
    writer->ctx = ctx;
    writer->most = most;
}

/* Writes until the caller hands them over itself, and on; leaves none in flight. */
static void drive(io_context2_t ctx)
{
    struct writer writer;

    start(&writer, ctx, 8000);
    writes(&writer);
    CHECK_EQ(writer.done, writer.most);
}

static bool is_in_call(pid_t tid, long nr)
{
    char name[32], text[256];

    snprintf(name, sizeof(name), "%d", (int)tid);
    return read_task_file(name, "syscall", text, sizeof(text)) && text[0] != 'r' && atol(text) == nr;
}

/* Has a thread wait in the kernel's AIO, with DEPTH writes in flight that do not come to an end. */
static void start_and_freeze(struct writer *writer, io_context2_t ctx)
{
    start(writer, ctx, UINT64_MAX);
    writer->thread = thread_start(writes, writer);
    CHECK_SOON(__atomic_load_n(&writer->done, __ATOMIC_RELAXED) > 4000);
    for (int tries = 0; tries < 2000; tries++) {
        const uint64_t before = __atomic_load_n(&writer->done, __ATOMIC_RELAXED);

        freeze();
        wait_thread_asleep(__atomic_load_n(&writer->tid, __ATOMIC_ACQUIRE));
        if (is_in_call(writer->tid, SYS_io_getevents))
            return;
        /* Now and then it leaves it to others, to see how they do. */
        thaw();
        CHECK_SOON(__atomic_load_n(&writer->done, __ATOMIC_RELAXED) > before + 4 * DEPTH);
    }
    FAIL("it never sleeps in the kernel's AIO");
}

/* The writer ends, as the event of something else has come. */
static void stopped(struct writer *writer)
{
    thread_join(writer->thread);
    CHECK_CMP(writer->ret, >, 0);
    CHECK_EQ(writer->event.data, OTHER);
}

/* All that is in flight comes, once. */
static void get_rest(struct writer *writer)
{
    while (writer->done < writer->submitted) {
        struct io_event2 event;

        get_events(writer->ctx, 1, &event, sizeof(event));
        note(writer, &event);
    }
    CHECK_RING_DRAINED(writer->ctx, ring_submitted(writer->ctx));
}

/* ---- What wakes it -------------------------------------------------------------------------------- */

static void submit_nop(io_context2_t ctx)
{
    struct iocb2 iocb;

    io_prep2_nop(&iocb);
    iocb.data = OTHER;
    submit_one(ctx, &iocb);
}

static void other_requests(io_context2_t ctx)
{
    for (int i = 0; i < 20; i++) {
        struct writer writer;
        struct hold hold;

        start_and_freeze(&writer, ctx);
        if (i % 2 == 0) {
            submit_nop(ctx);
        } else {
            hold_submit(ctx, &hold, OTHER);
            hold_wait_running(1);
            hold_release(&hold);
        }
        stopped(&writer);
        if (i % 2 != 0)
            hold_close(&hold);
        thaw();
        get_rest(&writer);
    }
}

/* Nobody waits there any more: the next may, as long as it has time. */
static void timeout(io_context2_t ctx)
{
    struct timespec limit = timespec_ns(30 * NSEC_PER_MSEC);
    struct writer writer;
    struct io_event2 event;
    int64_t since;

    start_and_freeze(&writer, ctx);
    submit_nop(ctx);
    stopped(&writer);
    since = now_ns();
    CHECK_EQ(CALL(io_getevents2(ctx, sizeof(event), &event, sizeof(event), &limit)), 0);
    CHECK_CMP(now_ns() - since, >=, 30 * NSEC_PER_MSEC);
    thaw();
    get_rest(&writer);
}

static void on_signal(int sig)
{
    (void)sig;
}

static void signals(io_context2_t ctx)
{
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    struct writer writer;

    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    start_and_freeze(&writer, ctx);
    CHECK_EQ(pthread_kill(writer.thread, SIGUSR1), 0);
    thread_join(writer.thread);
    CHECK_EQ(writer.ret, -EINTR);
    thaw();
    get_rest(&writer);
}

static void *gets_one(void *arg)
{
    struct writer *writer = arg;

    __atomic_store_n(&writer->tid, my_tid(), __ATOMIC_RELEASE);
    writer->ret = io_getevents2(writer->ctx, sizeof(writer->event), &writer->event, sizeof(writer->event), NULL);
    return NULL;
}

/* Another waits beside it. */
static void start_waiter(struct writer *waiter, io_context2_t ctx)
{
    memset(waiter, 0, sizeof(*waiter));
    waiter->ctx = ctx;
    waiter->thread = thread_start(gets_one, waiter);
    CHECK_SOON(is_in_call(__atomic_load_n(&waiter->tid, __ATOMIC_ACQUIRE), SYS_futex));
}

/* Each of two gets its own. */
static void two(io_context2_t ctx)
{
    struct writer writer, waiter;

    start_and_freeze(&writer, ctx);
    start_waiter(&waiter, ctx);
    submit_nop(ctx);
    stopped(&writer);
    submit_nop(ctx);
    thread_join(waiter.thread);
    CHECK_EQ(waiter.ret, (ssize_t)sizeof(struct io_event2));
    CHECK_EQ(waiter.event.data, OTHER);
    thaw();
    get_rest(&writer);
}

/* What it leaves in the kernel comes to others, in whatever way they wait. */
static void leaves(io_context2_t ctx)
{
    struct writer writer, waiter;

    for (int way = 0; way < 4; way++) {
        start_and_freeze(&writer, ctx);
        if (way == 0)
            start_waiter(&waiter, ctx);
        submit_nop(ctx);
        stopped(&writer);
        thaw();
        switch (way) {
        case 0:
            /* One who sleeps elsewhere. */
            thread_join(waiter.thread);
            CHECK_EQ(waiter.ret, (ssize_t)sizeof(struct io_event2));
            note(&writer, &waiter.event);
            break;
        case 1:
            /* One who looks at the ring and calls nothing. */
            CHECK_SOON(ring_completed(ctx) == ring_submitted(ctx));
            break;
        case 2:
        case 3:
            /* One who does not wait. */
            while (writer.done < writer.submitted) {
                struct timespec none = { 0, 0 };
                struct io_event2 event;
                ssize_t n = CALL(io_getevents2(ctx, way == 2 ? 0 : sizeof(event), &event, sizeof(event), way == 2 ? NULL : &none));

                CHECK(n == 0 || n == (ssize_t)sizeof(event));
                if (n != 0)
                    note(&writer, &event);
            }
            break;
        }
        get_rest(&writer);
    }
}

static void *thaws(void *arg)
{
    (void)arg;
    sleep_ms(50);
    thaw();
    return NULL;
}

static void destroyed(void)
{
    for (int i = 0; i < 10; i++) {
        io_context2_t ctx = setup2(65536, 0, 0);
        struct writer writer;

        start_and_freeze(&writer, ctx);
        __atomic_store_n(&writer.may_be_gone, true, __ATOMIC_RELAXED);
        pthread_t thread = thread_start(thaws, NULL);
        CHECK_EQ(CALL(io_destroy2(ctx)), 0);
        thread_join(writer.thread);
        CHECK_EQ(writer.ret, -EINVAL);
        thread_join(thread);
    }
}

static void children(io_context2_t ctx)
{
    for (int i = 0; i < 5; i++) {
        struct writer writer;

        start_and_freeze(&writer, ctx);
        pid_t child = fork();
        if (child == 0) {
            CHECK_EQ(count_bells(false), 0);
            exit(0);
        }
        wait_child(child);
        submit_nop(ctx);
        stopped(&writer);
        thaw();
        child = fork();
        if (child == 0) {
            /* A context of its own, and the requests in flight there at its end. */
            struct writer own;

            start(&own, setup2(65536, 0, 0), 8000);
            drive(own.ctx);
            submit_writes(&own);
            exit(0);
        }
        wait_child(child);
        get_rest(&writer);
    }
}

/* A thread that has taken the kernel's AIO from itself goes on without, with what is in flight there, too. */
static void filtered(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_submit, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_getevents, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };
    pid_t child = fork();

    if (child == 0) {
        io_context2_t ctx = setup2(65536, 0, 0);
        struct writer writer;

        start_and_freeze(&writer, ctx);
        submit_nop(ctx);
        stopped(&writer);
        CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        CHECK_EQ(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
        thaw();
        while (writer.done < writer.submitted) {
            struct io_event2 event;

            CHECK_EQ(CALL(io_getevents2(ctx, sizeof(event), &event, sizeof(event), NULL)), (long long)sizeof(event));
            note(&writer, &event);
        }
        drive(ctx);
        CHECK_EQ(CALL(io_destroy2(ctx)), 0);
        exit(0);
    }
    wait_child(child);
}

/* More contexts than there are places for such callers, some of which go. */
static void many(void)
{
    io_context2_t ctxs[20];

    for (int i = 0; i < 20; i++)
        ctxs[i] = setup2(65536, 0, 0);
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < 20; i++) {
            drive(ctxs[i]);
            if ((i + round) % 3 == 0) {
                struct writer writer;

                start(&writer, ctxs[i], UINT64_MAX);
                submit_writes(&writer);
                CHECK_EQ(CALL(io_destroy2(ctxs[i])), 0);
                ctxs[i] = setup2(65536, 0, 0);
            }
        }
    CHECK_EQ(count_bells(false), 1);
    for (int i = 0; i < 20; i++)
        CHECK_EQ(CALL(io_destroy2(ctxs[i])), 0);
}

int main(void)
{
    void *at;

    CHECK_EQ(posix_memalign(&at, 4096, DEVICE_BYTES), 0);
    memory = at;
    fill_pattern(memory, DEVICE_BYTES, 0, 1);
    make_device(memory);

    /* A sleeper that is not woken does not look for itself. */
    CHECK_EQ(setenv("AIO2_HOOK_SLEEP_NS", "3600000000000", 1), 0);
    io_context2_t ctx = setup2(65536, 0, 0);
    other_requests(ctx);
    timeout(ctx);
    signals(ctx);
    two(ctx);
    leaves(ctx);
    destroyed();
    children(ctx);
    many();
    filtered();
    /* The program closes what they are woken by: they look for themselves. */
    CHECK_EQ(unsetenv("AIO2_HOOK_SLEEP_NS"), 0);
    CHECK_EQ(count_bells(true), 1);
    other_requests(ctx);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
