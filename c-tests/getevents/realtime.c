/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A program with one processor and a real-time policy polls for events and never sleeps: it gets them, from the ring or by
 * calls that do not wait, whenever it got its policy, with the highest priority, and without the right to give others a higher
 * one. A program that keeps all processors busy gets them, too.
 */
/* needs: root */
#include "test.h"
#include "stress.h"

enum { ROUNDS = 100, BLOCK = 512, LIMIT_S = 25 };
enum part { RING, CALLS, CALLS_NO_TIME, ROUND_ROBIN, LATER, HIGHEST, HIGHEST_CALLS, NO_RIGHT, PIPE, ALL_BUSY, DEADLINE, PARTS };

static const char *const names[PARTS] = {
    "ring", "calls", "calls without a timeout", "SCHED_RR", "policy set later", "highest priority",
    "highest priority, calls", "no right to raise", "pipe", "all processors busy", "SCHED_DEADLINE",
};

static void become(int policy, int priority)
{
    struct sched_param param = { .sched_priority = priority };

    CHECK_EQ(sched_setscheduler(0, policy, &param), 0);
}

/* A thread with this policy may start no other. False: it is not to be had here. */
static bool become_deadline(void)
{
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attr = { .size = 48, .policy = 6, .runtime = 5000000, .deadline = 10000000, .period = 10000000 };

    return syscall(SYS_sched_setattr, 0, &attr, 0) == 0;
}

static void give_up_rights(void)
{
    CHECK_EQ(setresgid(65534, 65534, 65534), 0);
    CHECK_EQ(setresuid(65534, 65534, 65534), 0);
}

/* Until there is one more event than before, and without ever sleeping. */
static void look(io_context2_t ctx, enum part part, uint64_t before)
{
    struct timespec zero = { 0, 0 };
    union event_room room;
    ssize_t got = 0;

    if (part != CALLS && part != CALLS_NO_TIME && part != HIGHEST_CALLS) {
        while (ring_completed(ctx) == before)
            ;
        got = io_getevents2(ctx, sizeof(room.event), &room.event, sizeof(room), NULL);
    }
    while (got == 0) {
        got = part == CALLS_NO_TIME ? io_getevents2(ctx, 0, &room.event, sizeof(room), NULL)
                                    : io_getevents2(ctx, sizeof(room.event), &room.event, sizeof(room), &zero);
    }
    CHECK_EQ(got, sizeof(room.event));
    CHECK_CMP(room.event.res, >, 0);
}

static void *keep_busy(void *arg)
{
    become(SCHED_FIFO, 50);
    for (;;)
        ;
    return arg;
}

/* A thread on each processor but one, which are never to be had again. */
static void keep_others_busy(void)
{
    cpu_set_t set;

    CHECK_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
    for (int i = 1; i < CPU_COUNT(&set); i++)
        (void)thread_start(keep_busy, NULL);
}

static void run(enum part part, int fd)
{
    io_context2_t ctx = setup2(0, 0, 0);
    char buf[BLOCK];

    if (part == ALL_BUSY)
        keep_others_busy();
    if (part == NO_RIGHT) {
        become(SCHED_FIFO, 50);
        give_up_rights();
    } else if (part == HIGHEST || part == HIGHEST_CALLS) {
        become(SCHED_FIFO, sched_get_priority_max(SCHED_FIFO));
    } else if (part == DEADLINE) {
        if (!become_deadline())
            test_end(0);
    } else if (part != LATER) {
        become(part == ROUND_ROBIN ? SCHED_RR : SCHED_FIFO, 50);
    }
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t before = ring_completed(ctx);
        struct iocb2 iocb;

        if (part == LATER && i == ROUNDS / 2)
            become(SCHED_FIFO, 50);
        if (part == PIPE)
            io_prep2_syscall(&iocb, SYS_read, (uint64_t)fd, (uintptr_t)buf, 1, 0, 0, 0);
        else
            io_prep2_pread(&iocb, fd, buf, BLOCK, i % 8 * BLOCK);
        submit_one(ctx, &iocb);
        look(ctx, part, before);
        if (part != PIPE)
            CHECK_PATTERN(buf, BLOCK, (uint64_t)(i % 8 * BLOCK), 1);
    }
    test_end(0);
}

/* The program is started on one processor, and so is all that it starts. */
static void start(const char *self, enum part part, int fd)
{
    int processor = -1;
    char numbers[2][16];
    cpu_set_t set;

    CHECK_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
    for (int i = 0; i < CPU_SETSIZE; i++) {
        if (CPU_ISSET(i, &set))
            processor = i;
    }
    if (part != ALL_BUSY && part != DEADLINE) {
        CPU_ZERO(&set);
        CPU_SET(processor, &set);
        CHECK_EQ(sched_setaffinity(0, sizeof(set), &set), 0);
    }
    become(SCHED_OTHER, 0);
    snprintf(numbers[0], sizeof(numbers[0]), "%d", (int)part);
    snprintf(numbers[1], sizeof(numbers[1]), "%d", fd);
    execl(self, self, numbers[0], numbers[1], (char *)NULL);
    FAIL("%s: %s", self, strerror(errno));
}

static void check(const char *self, enum part part, int file)
{
    int64_t end = now_ns() + LIMIT_S * NSEC_PER_SEC;
    int status = 0;
    int ends[2];
    pid_t child;

    CHECK_EQ(pipe(ends), 0);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        close(ends[1]);
        start(self, part, part == PIPE ? ends[0] : file);
    }
    close(ends[0]);
    signal(SIGPIPE, SIG_IGN);
    while (waitpid(child, &status, WNOHANG) == 0) {
        /* Else nothing gets its processor any more. */
        if (now_ns() > end) {
            CHECK_EQ(kill(child, SIGKILL), 0);
            CHECK_EQ(waitpid(child, &status, 0), child);
            FAIL("%s: it never gets its events", names[part]);
        }
        if (part == PIPE)
            (void)!write(ends[1], "x", 1);
        sleep_ms(2);
    }
    close(ends[1]);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        FAIL("%s: status %#x", names[part], (unsigned)status);
}

int main(int argc, char **argv)
{
    cpu_set_t set;
    int file;

    if (argc == 3)
        run((enum part)atoi(argv[1]), atoi(argv[2]));
    CHECK_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
    if (CPU_COUNT(&set) < 2)
        SKIP("needs a second processor, for who watches it");
    file = temp_pattern_file(8 * BLOCK, 1, 0);
    CHECK_EQ(fcntl(file, F_SETFD, 0), 0);
    /* The thread that watches it always gets a processor. */
    become(SCHED_FIFO, 60);
    for (int part = 0; part < PARTS; part++)
        check(argv[0], (enum part)part, file);
    return 0;
}
