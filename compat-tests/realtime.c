/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * realtime DIRECTORY: programs with one processor and a real-time policy poll for events, in the ring or by io_getevents, and
 * never sleep. They get them, whenever they got their policy, with the highest priority, and without the right to give others a
 * higher one: reads of files, with O_DIRECT, too, and poll requests.
 */
#include <fcntl.h>
#include <libaio.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "must.h"
#include "now.h"

enum { PAGE = 4096, PAGES = 64, ROUNDS = 200, DEPTH = 8, LIMIT_S = 25 };
enum part { RING, CALLS, LATER, HIGHEST, NO_RIGHT, DIRECT, DIRECT_CALLS, POLL, PARTS };

struct ring {
    unsigned id, nr, head, tail;
};

static const char *const names[PARTS] = { "ring", "calls", "policy set later", "highest priority", "no right to raise",
                                          "O_DIRECT", "O_DIRECT, calls", "poll" };
static char buffers[DEPTH][PAGE] __attribute__((aligned(PAGE)));

static void become(int priority)
{
    struct sched_param param = { .sched_priority = priority };

    MUST(sched_setscheduler(0, SCHED_FIFO, &param) == 0);
}

/* Until all are there, and without ever sleeping. */
static void look(io_context_t ctx, int by_ring, int count, struct io_event *ev)
{
    const struct ring *ring = (const struct ring *)ctx;
    struct timespec none = { 0, 0 };
    int got = 0;

    while (by_ring) {
        unsigned head = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE);
        unsigned tail = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);

        if ((tail + ring->nr - head) % ring->nr == (unsigned)count)
            break;
    }
    while (got < count) {
        int more = io_getevents(ctx, by_ring ? count : 1, count - got, ev + got, &none);

        MUST(more >= 0);
        got += more;
    }
}

static void run(enum part part, int fd, int to_pipe)
{
    struct iocb cbs[DEPTH], *list[DEPTH];
    struct io_event ev[DEPTH];
    io_context_t ctx = NULL;
    unsigned seed = 1;

    MUST(io_setup(DEPTH, &ctx) == 0);
    if (part == HIGHEST)
        become(sched_get_priority_max(SCHED_FIFO));
    else if (part != LATER)
        become(50);
    if (part == NO_RIGHT)
        MUST(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
    for (int round = 0; round < ROUNDS; round++) {
        int depth = part == POLL ? 1 : round % 2 ? 1 : DEPTH;

        if (part == LATER && round == ROUNDS / 2)
            become(50);
        for (int i = 0; i < depth; i++) {
            seed = seed * 1103515245 + 12345;
            list[i] = &cbs[i];
            if (part == POLL)
                io_prep_poll(&cbs[i], fd, POLLIN);
            else
                io_prep_pread(&cbs[i], fd, buffers[i], PAGE, (long long)((seed >> 8) % PAGES) * PAGE);
        }
        MUST(io_submit(ctx, depth, list) == depth);
        if (part == POLL)
            MUST(write(to_pipe, "x", 1) == 1);
        look(ctx, part != CALLS && part != DIRECT_CALLS, depth, ev);
        for (int i = 0; i < depth; i++) {
            const char *buffer = buffers[ev[i].obj - cbs];

            MUST(((long)ev[i].res & ~(long)(part == POLL ? POLLRDNORM : 0)) == (part == POLL ? POLLIN : PAGE));
            MUST(part == POLL || buffer[PAGE - 1] == 'a' + ev[i].obj->u.c.offset / PAGE % 26);
        }
        if (part == POLL)
            MUST(read(fd, buffers[0], 1) == 1);
    }
    MUST(io_destroy(ctx) == 0);
    _exit(0);
}

/* The program is started on one processor, and so is all that it starts. */
static void start_on_one(char **argv, int part)
{
    char number[16];
    cpu_set_t set;
    int last = -1;

    MUST(sched_getaffinity(0, sizeof(set), &set) == 0);
    for (int i = 0; i < CPU_SETSIZE; i++)
        last = CPU_ISSET(i, &set) ? i : last;
    CPU_ZERO(&set);
    CPU_SET(last, &set);
    MUST(sched_setaffinity(0, sizeof(set), &set) == 0);
    snprintf(number, sizeof(number), "%d", part);
    execl(argv[0], argv[0], argv[1], number, "part", (char *)NULL);
    MUST(!"exec");
}

static void check(char **argv, int part)
{
    double end = now() + LIMIT_S;
    pid_t child = fork();
    int status;

    MUST(child >= 0);
    if (child == 0)
        start_on_one(argv, part);
    while (waitpid(child, &status, WNOHANG) == 0) {
        /* Else nothing gets its processor any more. */
        if (now() > end) {
            MUST(kill(child, SIGKILL) == 0);
            fprintf(stderr, "%s: it never gets its events\n", names[part]);
            _exit(1);
        }
        usleep(2000);
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fprintf(stderr, "%s: status %#x\n", names[part], (unsigned)status);
        _exit(1);
    }
}

int main(int argc, char **argv)
{
    cpu_set_t set;
    char path[4096];
    int fd, ends[2];

    MUST(argc > 1);
    snprintf(path, sizeof(path), "%s/realtime", argv[1]);
    if (argc > 3) {
        int part = atoi(argv[2]);

        MUST(pipe(ends) == 0);
        fd = open(path, O_RDWR | (part == DIRECT || part == DIRECT_CALLS ? O_DIRECT : 0));
        MUST(fd >= 0);
        run((enum part)part, part == POLL ? ends[0] : fd, ends[1]);
    }
    MUST(sched_getaffinity(0, sizeof(set), &set) == 0);
    if (CPU_COUNT(&set) < 2 || getuid() != 0) {
        fprintf(stderr, "SKIPPED: needs root, and a second processor for who watches it\n");
        return 77;
    }
    fd = open(path, O_RDWR | O_CREAT, 0644);
    MUST(fd >= 0);
    for (int i = 0; i < PAGES; i++) {
        memset(buffers[0], 'a' + i % 26, PAGE);
        MUST(pwrite(fd, buffers[0], PAGE, (off_t)i * PAGE) == PAGE);
    }
    MUST(fsync(fd) == 0);
    for (int part = 0; part < PARTS; part++)
        check(argv, part);
    return 0;
}
