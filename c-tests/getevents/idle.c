/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * No thread polls: while a thread waits in io_getevents2(), a worker is blocked in a call and others are idle, the process uses
 * no processor time, and no thread of it is switched to.
 */
#include "test.h"

static io_context2_t ctx;
static io_context2_t empty;
static pid_t waiter_tids[3];
static struct timespec hour = { 3600, 0 };

static void *waiter(void *arg)
{
    const int which = *(int *)arg;
    union event_room room;
    sigset_t none;

    sigemptyset(&none);
    __atomic_store_n(&waiter_tids[which], my_tid(), __ATOMIC_RELEASE);
    if (which == 0)
        CHECK_EQ(io_getevents2(empty, 24, &room.event, sizeof(room), NULL), -EINVAL);
    else if (which == 1)
        CHECK_EQ(io_getevents2(empty, 24, &room.event, sizeof(room), &hour), -EINVAL);
    else
        CHECK_EQ(io_pgetevents2(empty, 24, &room.event, sizeof(room), NULL, &none), -EINVAL);
    return NULL;
}

struct usage {
    long long switches;
    int threads;
};

static void add_thread(struct usage *usage, const char *tid)
{
    char text[8192];
    const char *line;

    if (!read_task_file(tid, "status", text, sizeof(text)))
        return;
    line = strstr(text, "\nvoluntary_ctxt_switches:");
    CHECK(line != NULL);
    usage->switches += atoll(line + strlen("\nvoluntary_ctxt_switches:"));
    usage->threads++;
}

static bool add_worker(const char *tid, void *arg)
{
    add_thread(arg, tid);
    return true;
}

static struct usage measure(void)
{
    struct usage usage = { 0, 0 };

    for (int i = 0; i < 3; i++) {
        char tid[16];

        snprintf(tid, sizeof(tid), "%d", (int)waiter_tids[i]);
        add_thread(&usage, tid);
    }
    for_workers(add_worker, &usage);
    return usage;
}

static int64_t cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * NSEC_PER_SEC + t.tv_nsec;
}

int main(void)
{
    struct hold holds[4];
    unsigned char buf[4 * 24];
    pthread_t threads[3];
    int which[3] = { 0, 1, 2 };
    struct usage before;
    struct usage after;
    int64_t cpu;

    ctx = setup2(0, 0, 0);
    empty = setup2(0, 0, 0);
    for (uint64_t i = 0; i < 4; i++)
        hold_submit(ctx, &holds[i], i);
    hold_wait_running(4);
    for (int i = 0; i < 3; i++) {
        threads[i] = thread_start(waiter, &which[i]);
        CHECK_SOON(__atomic_load_n(&waiter_tids[i], __ATOMIC_ACQUIRE) != 0);
        wait_thread_asleep(waiter_tids[i]);
    }
    /* Two of the four workers become idle, two stay blocked. */
    hold_release(&holds[0]);
    hold_release(&holds[1]);
    (void)get_events(ctx, 2, buf, sizeof(buf));

    /* Idle workers end after a while: measured as long as they are there, and after they have gone. */
    for (int phase = 0; phase < 2; phase++) {
        sleep_ms(200);
        before = measure();
        cpu = cpu_ns();
        sleep_ms(1200);
        cpu = cpu_ns() - cpu;
        after = measure();
        /* On a busy machine idle workers may end meanwhile. */
        if (after.threads == before.threads) {
            CHECK_CMP(after.switches - before.switches, <=, 1);
            CHECK_CMP(cpu, <, 10 * NSEC_PER_MSEC);
        } else {
            CHECK_EQ(phase, 0);
        }
        if (phase == 0)
            CHECK_SOON(count_workers() == 2);
    }

    CHECK_EQ(CALL(io_destroy2(empty)), 0);
    for (int i = 0; i < 3; i++)
        thread_join(threads[i]);
    hold_release(&holds[2]);
    hold_release(&holds[3]);
    (void)get_events(ctx, 2, buf, sizeof(buf));
    for (int i = 0; i < 4; i++)
        hold_close(&holds[i]);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
