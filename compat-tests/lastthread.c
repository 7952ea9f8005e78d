/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * lastthread DIRECTORY: processes that end by pthread_exit() of their last thread, with a poll request pending for ever, after a read,
 * or right after writes were accepted. They end at once, with status 0, after the program's handlers, and the writes are there. So they do
 * if one of the library's first threads could not be created and later ones could, and the last thread ends while these start.
 */
#include <fcntl.h>
#include <libaio.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "create.h"
#include "must.h"
#include "now.h"

/* The last MISSING modes: the first thread is not created, the second, and so on. */
enum { PAGE = 4096, N = 32, MISSING = 2, MODES = 4 + MISSING, ROUNDS = 20 };

static char buffers[N][PAGE] __attribute__((aligned(PAGE)));
static int handled[2];

static void at_exit(void)
{
    MUST(write(handled[1], "x", 1) == 1);
}

/* Which of the threads that the program's thread would create is not created; 0: all are. */
static int missing;

struct start {
    void *(*run)(void *);
    void *arg;
};

/* Begins after the program's thread has ended. */
static void *late(void *given)
{
    struct start start = *(struct start *)given;
    char name[64], state = 0;

    free(given);
    snprintf(name, sizeof(name), "/proc/self/task/%d/stat", getpid());
    while (state != 'Z') {
        FILE *file = fopen(name, "r");

        MUST(file != NULL && fscanf(file, "%*d (%*[^)]) %c", &state) == 1 && fclose(file) == 0);
        usleep(1000);
    }
    return start.run(start.arg);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
    static int calls;
    struct start *start;

    if (missing == 0)
        return real_create(thread, attr, run, arg);
    if (gettid() == getpid())
        return ++calls == missing ? EAGAIN : real_create(thread, attr, run, arg);
    start = malloc(sizeof(*start));
    MUST(start != NULL);
    *start = (struct start){ run, arg };
    return real_create(thread, attr, late, start);
}

static void *other(void *arg)
{
    usleep(100000);
    return arg;
}

static void run(int mode, int fd)
{
    struct iocb cbs[N], poll_cb, *list[N], *one[] = { &poll_cb };
    struct io_event ev[N];
    io_context_t ctx = NULL;
    pthread_t thread;
    int ends[2];

    MUST(atexit(at_exit) == 0 && pipe(ends) == 0 && io_setup(N + 1, &ctx) == 0);
    io_prep_poll(&poll_cb, ends[0], POLLIN);
    if (mode > 3)
        missing = mode - 3;
    else if (mode != 1)
        MUST(io_submit(ctx, 1, one) == 1);
    for (int i = 0; i < N; i++) {
        list[i] = &cbs[i];
        memset(buffers[i], 'A' + i, PAGE);
        io_prep_pwrite(&cbs[i], fd, buffers[i], PAGE, (long long)i * PAGE);
    }
    MUST(io_submit(ctx, 1, list) == 1 && io_submit(ctx, N - 1, list + 1) == N - 1);
    if (mode < 3)
        MUST(io_getevents(ctx, N, N, ev, NULL) == N);
    /* One that never made a call of libaio's is the last. */
    if (mode == 2)
        MUST(pthread_create(&thread, NULL, other, NULL) == 0 && pthread_detach(thread) == 0);
    pthread_exit(NULL);
}

static void check(int mode, int fd)
{
    double end = now() + 60;
    int status;
    char seen[2];
    pid_t child;

    MUST(ftruncate(fd, 0) == 0 && pipe(handled) == 0);
    child = fork();
    MUST(child >= 0);
    if (child == 0)
        run(mode, fd);
    close(handled[1]);
    while (waitpid(child, &status, WNOHANG) == 0) {
        if (now() > end) {
            kill(child, SIGKILL);
            fprintf(stderr, "part %d: the process does not end\n", mode);
            _exit(1);
        }
        usleep(2000);
    }
    MUST(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    MUST(read(handled[0], seen, sizeof(seen)) == 1);
    close(handled[0]);
    for (int i = 0; i < N; i++)
        if (!(pread(fd, buffers[i], PAGE, (off_t)i * PAGE) == PAGE && buffers[i][PAGE - 1] == 'A' + i)) {
            fprintf(stderr, "part %d: page %d is not there\n", mode, i);
            _exit(1);
        }
}

int main(int argc, char **argv)
{
    char path[4096];
    int fd;

    MUST(argc > 1);
    snprintf(path, sizeof(path), "%s/lastthread", argv[1]);
    fd = open(path, O_RDWR | O_CREAT, 0600);
    MUST(fd >= 0);
    for (int round = 0; round < ROUNDS; round++) {
        for (int mode = 0; mode < MODES; mode++)
            check(mode, fd);
    }
    return 0;
}
