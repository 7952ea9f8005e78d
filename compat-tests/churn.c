/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * churn DIRECTORY [DEVICE [SECONDS [SEED]]]: each request gives exactly one event and goes to the file that its number named at io_submit(),
 * while descriptors are closed and replaced at once, in threads of which some have left the descriptor table of the others,
 * and while others fork. (With SABOTAGE in the environment, for a person to look at: while somebody closes and replaces the numbers that
 * the library has for itself.)
 */
#include <fcntl.h>
#include <libaio.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "must.h"
#include "now.h"

enum { THREADS = 6, FILES = 8, BLOCKS = 32, BYTES = 4096, DEPTH = 40, PIPES = 10 };

static const char *directory;
static double until;
static atomic_bool stops;
static long rounds[THREADS];
static int null_file;
static bool real;

enum kind { WRITE, READ, SYNC, POLL, PIPE_READ, PIPE_WRITE };

struct one {
    struct iocb cb;
    enum kind kind;
    int file, block, events, pipe;
    uint64_t version;
    char *buffer;
};

struct thread {
    int me;
    unsigned seed;
    uint64_t versions[FILES][BLOCKS];
    bool busy[FILES][BLOCKS];
    struct one all[DEPTH];
};

static void fill(char *at, int me, int file, int block, uint64_t version)
{
    uint64_t *words = (uint64_t *)at;
    uint64_t word = (uint64_t)me << 56 | (uint64_t)file << 48 | (uint64_t)block << 40 | version;

    for (int i = 0; i < BYTES / 8; i++)
        words[i] = word;
}

static void check(const char *at, int me, int file, int block, uint64_t version)
{
    static _Thread_local char wanted[BYTES];

    fill(wanted, me, file, block, version);
    if (version == 0)
        memset(wanted, 0, BYTES);
    if (memcmp(at, wanted, BYTES) != 0) {
        fprintf(stderr, "thread %d file %d block %d: %016llx, not %016llx\n", me, file, block,
                *(unsigned long long *)at, *(unsigned long long *)wanted);
        _exit(1);
    }
}

static int open_file(int me, int file, int flags)
{
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/churn-%d-%d", directory, me, file);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | flags, 0600);
    if (fd < 0 && (flags & O_DIRECT) && errno == EINVAL)
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    MUST(fd >= 0);
    return fd;
}

static void one_round(struct thread *t, io_context_t ctx)
{
    struct iocb *list[DEPTH];
    int count = 1 + rand_r(&t->seed) % DEPTH, in_flight = 0;
    int told = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), told_for = 0;
    struct { int fds[2]; char byte; } pipes[PIPES];
    int pipe_count = 0;
    bool written[PIPES] = { false };

    MUST(told >= 0);
    memset(t->busy, 0, sizeof(t->busy));
    while (in_flight < count) {
        int file = rand_r(&t->seed) % FILES;
        int fd = open_file(t->me, file, rand_r(&t->seed) % 2 ? O_DIRECT : 0);
        int some = 1 + rand_r(&t->seed) % 6, n = 0;
        int opened = 0, close_list[DEPTH];

        if (rand_r(&t->seed) % 4 == 0) {
            /* A number that others have, too. */
            int fixed = 100 + rand_r(&t->seed) % 4 + (t->me < THREADS / 2 ? 8 * t->me : 0);
            MUST(dup3(fd, fixed, O_CLOEXEC) == fixed);
            close(fd);
            fd = fixed;
        }
        for (; n < some && in_flight + n < DEPTH; n++) {
            struct one *one = &t->all[in_flight + n];
            int block = rand_r(&t->seed) % BLOCKS;
            unsigned what = rand_r(&t->seed) % 16;

            *one = (struct one){ .file = file, .block = block, .buffer = one->buffer, .pipe = -1 };
            if (what >= 14 && pipe_count == PIPES) {
                n--;
                continue;
            } else if (what >= 14) {
                int p = pipe_count++;
                MUST(pipe2(pipes[p].fds, O_CLOEXEC) == 0);
                pipes[p].byte = (char)rand_r(&t->seed);
                one->pipe = p;
                one->kind = what == 14 ? POLL : PIPE_READ;
                if (what == 15 && real)
                    written[p] = write(pipes[p].fds[1], &pipes[p].byte, 1) == 1;
                if (what == 14)
                    io_prep_poll(&one->cb, pipes[p].fds[0], POLLIN);
                else
                    io_prep_pread(&one->cb, pipes[p].fds[0], one->buffer, 1, 0);
                close_list[opened++] = pipes[p].fds[0];
            } else if (what == 13) {
                one->kind = SYNC;
                io_prep_fdsync(&one->cb, fd);
            } else if (t->busy[file][block]) {
                n--;
                continue;
            } else if (what < 6) {
                one->kind = WRITE;
                one->version = ++t->versions[file][block];
                fill(one->buffer, t->me, file, block, one->version);
                io_prep_pwrite(&one->cb, fd, one->buffer, BYTES, (long long)block * BYTES);
                t->busy[file][block] = true;
            } else {
                one->kind = READ;
                one->version = t->versions[file][block];
                memset(one->buffer, 0x55, BYTES);
                io_prep_pread(&one->cb, fd, one->buffer, BYTES, (long long)block * BYTES);
                t->busy[file][block] = true;
            }
            one->cb.data = one;
            if (rand_r(&t->seed) % 4 == 0) {
                io_set_eventfd(&one->cb, told);
                told_for++;
            }
            list[n] = &one->cb;
        }
        for (int at = 0; at < n;) {
            int ret = io_submit(ctx, n - at, list + at);

            if (ret <= 0)
                fprintf(stderr, "io_submit: %d\n", ret);
            MUST(ret > 0);
            at += ret;
        }
        in_flight += n;
        /* Something else has the numbers at once. */
        for (int i = 0; i < opened; i++) {
            if (i % 2)
                MUST(dup3(null_file, close_list[i], O_CLOEXEC) >= 0);
            close(close_list[i]);
        }
        if (rand_r(&t->seed) % 2) {
            int other = open_file(t->me, (file + 1) % FILES, 0);
            MUST(dup3(other, fd, O_CLOEXEC) == fd);
            close(other);
        }
        close(fd);
    }
    for (int p = 0; p < pipe_count; p++)
        if (!written[p])
            /* If nobody has the other end any more, a request has failed. */
            written[p] = write(pipes[p].fds[1], &pipes[p].byte, 1) == 1;
    for (int done = 0; done < in_flight;) {
        struct io_event events[8];
        int n = io_getevents(ctx, 1 + rand_r(&t->seed) % 2 * (in_flight - done > 1), 8, events, NULL);

        MUST(n > 0);
        for (int i = 0; i < n; i++, done++) {
            struct one *one = events[i].data;

            MUST(events[i].obj == &one->cb && one->events++ == 0);
            switch (one->kind) {
            case WRITE:
                if ((long)events[i].res != BYTES)
                    fprintf(stderr, "write: %ld\n", (long)events[i].res);
                MUST(events[i].res == BYTES);
                break;
            case READ:
                /* A file may not be that long, yet. */
                if ((long)events[i].res < 0)
                    fprintf(stderr, "read: %ld\n", (long)events[i].res);
                MUST((long)events[i].res >= 0);
                memset(one->buffer + events[i].res, 0, BYTES - events[i].res);
                check(one->buffer, t->me, one->file, one->block, one->version);
                break;
            case SYNC:
                MUST(events[i].res == 0);
                break;
            case POLL:
                if (!(events[i].res & POLLIN))
                    fprintf(stderr, "poll: %ld\n", (long)events[i].res);
                MUST(events[i].res & POLLIN);
                break;
            case PIPE_READ:
                if ((long)events[i].res != 1)
                    fprintf(stderr, "pipe: %ld\n", (long)events[i].res);
                MUST(events[i].res == 1 && *one->buffer == pipes[one->pipe].byte);
                break;
            default:
                break;
            }
        }
    }
    struct io_event none;
    struct timespec zero = { 0 };
    MUST(io_getevents(ctx, 0, 1, &none, &zero) == 0);
    /* The eventfd may be told a moment after the event can be seen. */
    uint64_t sum = 0, part;
    for (double end = now() + 20; sum != (uint64_t)told_for && now() < end;) {
        if (read(told, &part, 8) == 8)
            sum += part;
        else
            sched_yield();
    }
    if (sum != (uint64_t)told_for)
        fprintf(stderr, "eventfd: %d of %d\n", (int)sum, told_for);
    MUST(sum == (uint64_t)told_for);
    for (int p = 0; p < pipe_count; p++) {
        close(pipes[p].fds[1]);
    }
    close(told);
    rounds[t->me]++;
}

static void *churn(void *arg)
{
    struct thread *t = arg;
    io_context_t ctx = NULL;

    if (t->me == THREADS - 1)
        MUST(unshare(CLONE_FILES) == 0);
    if (t->me == THREADS - 2 || t->me == THREADS - 3)
        MUST(syscall(SYS_close_range, 400, ~0u, 2) == 0);
    for (int i = 0; i < DEPTH; i++) {
        t->all[i].buffer = aligned_alloc(BYTES, BYTES);
        MUST(t->all[i].buffer != NULL);
    }
    while (now() < until) {
        MUST(io_setup(DEPTH, &ctx) == 0);
        for (int i = rand_r(&t->seed) % 20; i >= 0; i--)
            one_round(t, ctx);
        MUST(io_destroy(ctx) == 0);
        ctx = NULL;
    }
    for (int file = 0; file < FILES; file++) {
        int fd = open_file(t->me, file, 0);

        for (int block = 0; block < BLOCKS; block++) {
            char *buffer = t->all[0].buffer;

            memset(buffer, 0, BYTES);
            MUST(pread(fd, buffer, BYTES, (long long)block * BYTES) >= 0);
            check(buffer, t->me, file, block, t->versions[file][block]);
        }
        close(fd);
    }
    return NULL;
}

static void *sabotage(void *arg)
{
    unsigned seed = 1;

    while (!stops) {
        for (int fd = 180; fd < 220; fd++) {
            if (rand_r(&seed) % 4 == 0)
                dup3(null_file, fd, O_CLOEXEC);
            if (rand_r(&seed) % 2 == 0)
                close(fd);
        }
        usleep(rand_r(&seed) % 3000);
    }
    return arg;
}

static void *forks(void *arg)
{
    unsigned seed = 1;

    while (!stops) {
        int status;
        pid_t pid;
        char *argv[] = { "true", NULL }, *env[] = { NULL };

        if (rand_r(&seed) % 3 == 0) {
            MUST(posix_spawn(&pid, "/bin/true", NULL, NULL, argv, env) == 0);
        } else {
            pid = fork();
            if (pid == 0)
                _exit(0);
        }
        MUST(waitpid(pid, &status, 0) == pid && status == 0);
        usleep(rand_r(&seed) % 20000);
    }
    return arg;
}

int main(int argc, char **argv)
{
    static struct thread threads[THREADS];
    pthread_t ids[THREADS], other[2];
    long sum = 0;
    struct rlimit none = { 0 };

    directory = argv[1];
    real = is_set("REAL");
    setrlimit(RLIMIT_CORE, &none);
    signal(SIGPIPE, SIG_IGN);
    until = now() + (argc > 3 ? atof(argv[3]) : 6);
    null_file = open("/dev/null", O_RDWR | O_CLOEXEC);
    MUST(null_file >= 0);
    pthread_create(&other[0], NULL, forks, NULL);
    if (getenv("SABOTAGE") != NULL)
        pthread_create(&other[1], NULL, sabotage, NULL);
    for (int i = 0; i < THREADS; i++) {
        threads[i].me = i;
        threads[i].seed = (unsigned)((argc > 4 ? atoi(argv[4]) : 1) * THREADS + i);
        for (int file = 0; file < FILES; file++) {
            char path[PATH_MAX];
            snprintf(path, sizeof(path), "%s/churn-%d-%d", directory, i, file);
            unlink(path);
        }
    }
    for (int i = 0; i < THREADS; i++)
        MUST(pthread_create(&ids[i], NULL, churn, &threads[i]) == 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(ids[i], NULL);
        sum += rounds[i];
    }
    stops = true;
    pthread_join(other[0], NULL);
    for (int i = 0; i < THREADS; i++)
        for (int file = 0; file < FILES; file++) {
            char path[PATH_MAX];
            snprintf(path, sizeof(path), "%s/churn-%d-%d", directory, i, file);
            unlink(path);
        }
    printf("%ld rounds\n", sum);
    return 0;
}
