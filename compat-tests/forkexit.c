/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Accepted writes are not lost when the process ends by itself: return from main, exit in another thread, the end of the last
 * thread, exit beside an atexit handler, exit in a signal handler that has interrupted io_getevents or io_submit. The parent,
 * which uses contexts of its own, forks all the time and must not be disturbed; nor must the children, which have none.
 */
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "must.h"

enum { N = 48, SIZE = 32768 };
static const char *dir;

static struct iocb cb[N], *list[N];
static io_context_t ctx;

static void submit_all(const char *path, int direct)
{
    char *buf = aligned_alloc(4096, SIZE);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | (direct ? O_DIRECT : 0), 0600);

    MUST(fd >= 0 && buf != NULL);
    memset(buf, 'w', SIZE);
    MUST(io_setup(N, &ctx) == 0);
    for (int i = 0; i < N; i++) {
        io_prep_pwrite(&cb[i], fd, buf, SIZE, (long long)i * SIZE);
        list[i] = &cb[i];
    }
    MUST(io_submit(ctx, N, list) == N);
    /* Neither io_getevents nor io_destroy nor close. */
}

static void *exits(void *arg)
{
    (void)arg;
    exit(0);
}

static void *sleeps(void *arg)
{
    (void)arg;
    usleep(30000);
    return NULL;
}

static void handler(void)
{
}

static void exits_by_signal(int sig)
{
    (void)sig;
    exit(0);
}

/* Reads what was written, again and again, until the signal comes. */
static void read_all(long usec)
{
    struct itimerval timer = { { 0, 0 }, { 0, usec } };
    struct io_event ev[N];

    MUST(signal(SIGALRM, exits_by_signal) != SIG_ERR);
    MUST(setitimer(ITIMER_REAL, &timer, NULL) == 0);
    for (;;) {
        int n = io_getevents(ctx, 1, N, ev, NULL);

        MUST(n > 0);
        for (int i = 0; i < n; i++) {
            struct iocb *one = ev[i].obj;
            static char to[4096] __attribute__((aligned(4096)));

            MUST((long)ev[i].res > 0);
            io_prep_pread(one, one->aio_fildes, to, sizeof(to), one->u.c.offset);
            MUST(io_submit(ctx, 1, &one) == 1);
        }
    }
}

static void check(const char *path, const char *what)
{
    char *back = malloc(SIZE);
    int fd = open(path, O_RDONLY);

    MUST(fd >= 0);
    for (int i = 0; i < N; i++) {
        ssize_t n = pread(fd, back, SIZE, (long long)i * SIZE);

        if (n != SIZE || back[0] != 'w' || memcmp(back, back + 1, SIZE - 1) != 0) {
            fprintf(stderr, "%s: write %d of %d is lost (%zd bytes)\n", what, i, N, n);
            _exit(1);
        }
    }
    close(fd);
    free(back);
}

static atomic_int stop;
static atomic_long parents_events;

static void *parents_io(void *arg)
{
    io_context_t ctx = NULL;
    struct iocb cb, *list = &cb;
    struct io_event ev;
    char buf[4096];
    int fd = open("/dev/zero", O_RDONLY);

    (void)arg;
    MUST(io_setup(16, &ctx) == 0);
    while (!stop) {
        io_prep_pread(&cb, fd, buf, sizeof(buf), 0);
        MUST(io_submit(ctx, 1, &list) == 1);
        MUST(io_getevents(ctx, 1, 1, &ev, NULL) == 1 && (long)ev.res == sizeof(buf));
        parents_events++;
    }
    MUST(io_destroy(ctx) == 0);
    return NULL;
}

int main(int argc, char **argv)
{
    static const char *const ways[] = { "exit", "exit in another thread", "the last thread ends", "an atexit handler is there", "return", "a signal handler" };
    pthread_t thread;
    char path[4096];

    MUST(argc >= 2);
    dir = argv[1];
    snprintf(path, sizeof(path), "%s/forkexit", dir);
    MUST(pthread_create(&thread, NULL, parents_io, NULL) == 0);
    for (int round = 0; round < 4; round++)
        for (int way = 0; way < 6; way++)
            for (int direct = 0; direct < 2; direct++) {
                /* The library's threads keep the process for some seconds more. */
                if (way == 2 && round > 0)
                    continue;
                int status = 0;
                pid_t child = fork();

                if (child == 0) {
                    pthread_t t;

                    if (way != 5)
                        alarm(100);
                    if (way == 3)
                        atexit(handler);
                    submit_all(path, direct);
                    switch (way) {
                    case 1:
                        MUST(pthread_create(&t, NULL, exits, NULL) == 0);
                        pause();
                        break;
                    case 2:
                        MUST(pthread_create(&t, NULL, sleeps, NULL) == 0);
                        pthread_exit(NULL);
                        break;
                    case 4:
                        return 0;
                    case 5:
                        read_all(500 + round * 7001);
                    }
                    exit(0);
                }
                while (waitpid(child, &status, 0) != child)
                    ;
                if (status != 0) {
                    fprintf(stderr, "%s, direct %d: status %#x\n", ways[way], direct, status);
                    return 1;
                }
                check(path, ways[way]);
            }
    /* A lot of children, while the parent works. */
    for (int i = 0; i < 200; i++) {
        int status = 0;
        pid_t child = fork();

        if (child == 0) {
            io_context_t ctx = NULL;

            alarm(100);
            if (i % 4 == 0)
                _exit(0);
            if (i % 4 == 1)
                exit(0);
            MUST(io_setup(8, &ctx) == 0);
            MUST(io_destroy(ctx) == 0);
            exit(0);
        }
        MUST(waitpid(child, &status, 0) == child);
        if (status != 0) {
            fprintf(stderr, "child %d: status %#x\n", i, status);
            return 1;
        }
    }
    stop = 1;
    pthread_join(thread, NULL);
    printf("%ld reads of the parent meanwhile\n", (long)parents_events);
    MUST(parents_events > 100);
    return 0;
}
