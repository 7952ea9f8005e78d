/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A seccomp filter is set for all threads at once (SECCOMP_FILTER_FLAG_TSYNC) while the kernel's AIO or io_uring has requests, handed
 * over by workers or by a caller that sleeps there. One filter allows all calls, one kills a process that makes a call of these
 * engines, and one also kills it if it asks whether there is a filter. All events come, later requests are carried out, and
 * io_destroy2(), exit() and fork() end.
 */
/* needs: kernel queue */
/* needs: root */
#include "test.h"
#include "stress.h"
#include "device.h"
#include "frozen.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

#define BLOCK 512
#define DEPTH 32
#define BLOCKS (FROZEN_BYTES / BLOCK)

enum filter { ALLOWS_ALL, KILLS_AIO, KILLS_QUESTION, FILTERS };
enum end { EVENTS, DESTROY, EXIT, FORK, ENDS };

static unsigned char *memory;
static io_context2_t ctx;
/* The thread that submits and waits hands over and sleeps in the kernel's AIO by itself; else workers do it. */
static bool sleeps_there;

static uint64_t most, submitted, done;
static pid_t caller_tid;
static ssize_t last;
/* The kernel's AIO has carried some out. */
static bool by_kernel;

static void submit_writes(void)
{
    union routed iocbs[DEPTH];
    uint64_t limit = __atomic_load_n(&most, __ATOMIC_ACQUIRE);
    size_t n = 0;

    for (; submitted - done < DEPTH && submitted < limit; n++) {
        size_t at = submitted % BLOCKS * BLOCK;

        io_prep2_pwrite(&iocbs[n].iocb, device, memory + at, BLOCK, (int64_t)at);
        ask_route(&iocbs[n].iocb);
        __atomic_store_n(&submitted, submitted + 1, __ATOMIC_RELAXED);
    }
    if (n != 0)
        io_submit2(ctx, &iocbs[0].iocb, n * sizeof(iocbs[0]));
}

/* Keeps DEPTH writes in flight until it has made `most`, or the context is gone. */
static void *writes(void *arg)
{
    sigset_t mask;

    CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &mask), 0);
    __atomic_store_n(&caller_tid, my_tid(), __ATOMIC_RELEASE);
    for (;;) {
        union routed_event events[DEPTH];

        submit_writes();
        if (done == submitted)
            return arg;
        /* With a mask it cannot sleep in the kernel's AIO. */
        if (sleeps_there)
            last = io_getevents2(ctx, sizeof(events[0]), &events[0].event, sizeof(events), NULL);
        else
            last = io_pgetevents2(ctx, sizeof(events[0]), &events[0].event, sizeof(events), NULL, &mask);
        if (last < 0)
            return arg;
        for (size_t i = 0; i < (size_t)last / sizeof(events[0]); i++) {
            CHECK_EQ(events[i].event.res, BLOCK);
            if (is_kernels(route_of(&events[i].event)))
                __atomic_store_n(&by_kernel, true, __ATOMIC_RELAXED);
        }
        __atomic_store_n(&done, done + (uint64_t)last / sizeof(events[0]), __ATOMIC_RELAXED);
    }
}

static bool caller_is_in(long nr)
{
    char name[32], text[256];

    snprintf(name, sizeof(name), "%d", (int)caller_tid);
    return read_task_file(name, "syscall", text, sizeof(text)) && text[0] != 'r' && atol(text) == nr;
}

/* Of those in flight some are with the kernel's AIO, and nothing moves. */
static bool are_with_kernel(void)
{
    if (ring_submitted(ctx) - ring_completed(ctx) == 0)
        return false;
    if (sleeps_there)
        return caller_is_in(SYS_io_getevents);
    return count_workers_in(SYS_pwrite64) == 0 && !caller_is_in(SYS_pwrite64);
}

static pthread_t start_and_freeze(void)
{
    __atomic_store_n(&most, UINT64_MAX, __ATOMIC_RELEASE);
    pthread_t thread = thread_start(writes, NULL);
    CHECK_SOON(__atomic_load_n(&done, __ATOMIC_RELAXED) > 4000);
    CHECK_SOON(__atomic_load_n(&by_kernel, __ATOMIC_RELAXED));
    for (int tries = 0; tries < 200; tries++) {
        const uint64_t before = __atomic_load_n(&done, __ATOMIC_RELAXED);

        freeze();
        wait_thread_asleep(__atomic_load_n(&caller_tid, __ATOMIC_ACQUIRE));
        /* A worker may just have asked whether there is a filter. */
        CHECK_SOON(are_others_asleep());
        if (are_with_kernel())
            return thread;
        thaw();
        /* Until others are in flight. */
        CHECK_SOON(__atomic_load_n(&done, __ATOMIC_RELAXED) > before + 4 * DEPTH);
    }
    FAIL("they are never with the kernel");
}

static bool is_high(int fd, void *arg)
{
    (void)arg;
    return fd > 100;
}

/* Eventfds and the like of the library's, except the one by which a caller with a mask sleeps, which is low. */
static int count_anonymous(void)
{
    return for_descriptors("anon_inode:", is_high, NULL);
}

static void install(enum filter which)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 11, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_enter, 10, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_register, 9, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_submit, 8, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_getevents, 7, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_pgetevents, 6, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_setup, 5, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_destroy, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, which == KILLS_QUESTION ? SYS_prctl : UINT32_MAX, 0, 2),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PR_GET_SECCOMP, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };

    if (which == ALLOWS_ALL)
        code[sizeof(code) / sizeof(code[0]) - 1].k = SECCOMP_RET_ALLOW;
    CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    CHECK_EQ(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program), 0);
}

/* Thaws when the first thread waits for what is frozen. */
static void *thaws(void *arg)
{
    wait_thread_asleep(getpid());
    thaw();
    return arg;
}

static void __attribute__((noreturn)) run(enum filter which, enum end end)
{
    pthread_t thread;
    pid_t child;

    ctx = setup2(65536, 0, 0);
    thread = start_and_freeze();
    install(which);
    switch (end) {
    case FORK:
        child = fork();
        if (child == 0) {
            /* It has none of it. */
            CHECK_EQ(io_destroy2(ctx), -EINVAL);
            CHECK_EQ(count_anonymous(), 0);
            _exit(0);
        }
        wait_child(child);
        /* fall through */
    case EVENTS:
        /* Nothing more is submitted before all that is in flight has come. */
        __atomic_store_n(&most, __atomic_load_n(&submitted, __ATOMIC_RELAXED), __ATOMIC_RELEASE);
        thaw();
        thread_join(thread);
        CHECK_EQ(done, submitted);
        CHECK_RING_DRAINED(ctx, ring_submitted(ctx));
        if (which != KILLS_QUESTION) {
            /* Without the kernel's AIO from here on. */
            most += 500;
            writes(NULL);
            CHECK_EQ(done, most);
        }
        CHECK_EQ(CALL(io_destroy2(ctx)), 0);
        break;
    case DESTROY:
        __atomic_store_n(&most, 0, __ATOMIC_RELEASE);
        (void)thread_start(thaws, NULL);
        CHECK_EQ(CALL(io_destroy2(ctx)), 0);
        thread_join(thread);
        break;
    default:
        __atomic_store_n(&most, 0, __ATOMIC_RELEASE);
        (void)thread_start(thaws, NULL);
    }
    exit(0);
}

int main(void)
{
    void *at;

    CHECK_EQ(posix_memalign(&at, 4096, FROZEN_BYTES), 0);
    memory = at;
    fill_pattern(memory, FROZEN_BYTES, 0, 1);
    make_device(memory);
    for (int way = 0; way < 2; way++) {
        for (int which = 0; which < FILTERS; which++) {
            for (int end = 0; end < ENDS; end++) {
                /* A thread that sleeps there asks before it sleeps again. */
                if (way == 1 && (which == KILLS_QUESTION || !has_own_queues()))
                    continue;
                fflush(NULL);
                pid_t child = fork();
                if (child == 0) {
                    alarm(3 * PATIENCE_S);
                    sleeps_there = way == 1;
                    run(which, end);
                }
                wait_child(child);
            }
        }
    }
    return 0;
}
