/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A waiter that is woken for events but leaves some or all of them passes the wake-up on to the next waiter, whose wait they
 * end. It leaves them because they do not fit its buffer, because it has enough, or because its time was up or a handler ran at
 * that moment.
 */
#include "test.h"
#include "stress.h"

#define SMALL sizeof(struct io_event2)
#define LARGE (sizeof(struct io_event2) + 10 * sizeof(struct iocb_attr_ret))

static io_context2_t ctx;

struct wait {
    pid_t tid;
    size_t min_bytes;
    size_t nbytes;
    ssize_t got;
    union event_room room;
};

static void *waiter(void *arg)
{
    struct wait *wait = arg;

    __atomic_store_n(&wait->tid, (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
    wait->got = io_getevents2(ctx, wait->min_bytes, &wait->room.event, wait->nbytes, NULL);
    return NULL;
}

static bool asleep(struct wait *wait)
{
    char tid[16];
    char text[256];

    snprintf(tid, sizeof(tid), "%d", (int)__atomic_load_n(&wait->tid, __ATOMIC_ACQUIRE));
    return read_task_file(tid, "syscall", text, sizeof(text)) && strtol(text, NULL, 10) == SYS_futex;
}

/* Returns when it waits: they are in the order in which they were started. */
static pthread_t start(struct wait *wait, size_t min_bytes, size_t nbytes)
{
    pthread_t thread;

    memset(wait, 0, sizeof(*wait));
    wait->min_bytes = min_bytes;
    wait->nbytes = nbytes;
    thread = thread_start(waiter, wait);
    CHECK_SOON(asleep(wait));
    sleep_ms(2);
    return thread;
}

static void submit_large(uint64_t data)
{
    union iocb_room room;

    io_prep2_nop(&room.iocb);
    room.iocb.data = data;
    for (int i = 0; i < 10; i++)
        CHECK(iocb2_add_attr(&room.iocb, IOCB_ATTR_PRIVATE, 0, 0, NULL, 0) != NULL);
    submit_one(ctx, &room.iocb);
}

static void on_signal(int sig)
{
    (void)sig;
}

static bool stop;
static uint64_t events_taken;

/* Takes one event at a time, and is disturbed by timeouts and signals. */
static void *hasty(void *arg)
{
    uint64_t rng = (uintptr_t)arg;

    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        struct timespec timeout = timespec_ns((int64_t)rng_below(&rng, 60000));
        struct io_event2 event;
        ssize_t got = io_getevents2(ctx, SMALL, &event, SMALL, &timeout);

        if (got == -EINTR)
            continue;
        CHECK(got == 0 || got == SMALL);
        if (got != 0)
            __atomic_fetch_add(&events_taken, 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

static void *patient(void *arg)
{
    (void)arg;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        struct io_event2 event;

        if (io_getevents2(ctx, SMALL, &event, SMALL, NULL) == SMALL)
            __atomic_fetch_add(&events_taken, 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

int main(void)
{
    struct sigaction action;
    struct wait first;
    struct wait second;
    struct wait third;
    pthread_t threads[3];
    uint64_t rng = 1;

    if (access("/proc/self/syscall", R_OK) != 0)
        SKIP("this kernel does not show /proc/self/syscall");
    ctx = setup2(4096, 0, 1);

    for (int i = 0; i < 5; i++) {
        /* The first is woken, and cannot take it; the second, for whom it would not be enough as well, can. */
        threads[0] = start(&first, SMALL, SMALL);
        threads[1] = start(&second, LARGE, sizeof(second.room));
        submit_large(1);
        thread_join(threads[0]);
        thread_join(threads[1]);
        CHECK_EQ(first.got, -ENOBUFS);
        CHECK_EQ(second.got, LARGE);

        /* Two events; the first takes one and is done, and so is the second; the third goes on waiting. */
        threads[0] = start(&first, SMALL, SMALL);
        threads[1] = start(&second, SMALL, SMALL);
        threads[2] = start(&third, 2 * SMALL, sizeof(third.room));
        submit_nops(ctx, 0, 2);
        thread_join(threads[0]);
        thread_join(threads[1]);
        CHECK_EQ(first.got, SMALL);
        CHECK_EQ(second.got, SMALL);
        submit_nops(ctx, 0, 2);
        thread_join(threads[2]);
        CHECK_EQ(third.got, 2 * SMALL);

        /*
         * The third event is enough for the first, which leaves it, as it does not fit, with the two before; what
         * is left is what the second waits for.
         */
        threads[0] = start(&first, 3 * SMALL, 3 * SMALL);
        threads[1] = start(&second, LARGE, sizeof(second.room));
        submit_nops(ctx, 0, 2);
        CHECK_SOON(ring_completed(ctx) == ring_submitted(ctx));
        submit_large(0);
        thread_join(threads[0]);
        thread_join(threads[1]);
        CHECK_EQ(first.got, 2 * SMALL);
        CHECK_EQ(second.got, LARGE);
    }

    /* One event at a time for a hasty waiter and a patient one: somebody takes it at once, always. */
    memset(&action, 0, sizeof(action));
    action.sa_handler = on_signal;
    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    threads[0] = thread_start(hasty, (void *)1);
    threads[1] = thread_start(hasty, (void *)2);
    threads[2] = thread_start(patient, NULL);
    for (uint64_t i = 1; i <= 20000; i++) {
        submit_nops(ctx, 0, 1);
        if (rng_below(&rng, 4) == 0)
            CHECK_EQ(pthread_kill(threads[rng_below(&rng, 2)], SIGUSR1), 0);
        if (i == 20000 || rng_below(&rng, 3) == 0) {
            int64_t end = now_ns() + PATIENCE_NS;

            while (__atomic_load_n(&events_taken, __ATOMIC_ACQUIRE) < i) {
                if (now_ns() > end)
                    FAIL("%" PRIu64 " of %" PRIu64 " events taken", events_taken, i);
                sched_yield();
            }
        }
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    thread_join(threads[0]);
    thread_join(threads[1]);
    submit_nops(ctx, 0, 1);
    thread_join(threads[2]);
    while (io_getevents2(ctx, 0, &first.room.event, sizeof(first.room), NULL) > 0)
        ;
    CHECK_RING_DRAINED(ctx, ring_submitted(ctx));
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
