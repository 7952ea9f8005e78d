/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * forkinside DIRECTORY: a signal handler forks, wherever in io_submit and io_getevents it has interrupted its thread. The parent goes on,
 * the child ends, and no request is lost.
 */
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
#include "must.h"
#include "submit.h"

enum { PAGE = 4096, BATCH = 8, FORKS = 400 };

static volatile sig_atomic_t forks;

static void forks_now(int sig)
{
    int before = errno;
    pid_t child = fork();

    (void)sig;
    if (child == 0)
        _exit(0);
    MUST(child > 0 && waitpid(child, NULL, 0) == child);
    forks = forks + 1;
    errno = before;
}

static void *signals(void *arg)
{
    unsigned seed = 1;

    while (forks < FORKS) {
        int seen = forks;

        usleep((unsigned)rand_r(&seed) % 300);
        pthread_kill(*(pthread_t *)arg, SIGUSR1);
        while (forks == seen)
            usleep(10);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    static char buffers[BATCH][PAGE];
    struct sigaction action = { .sa_handler = forks_now };
    struct iocb cbs[BATCH], *list[BATCH];
    struct io_event events[BATCH];
    pthread_t self = pthread_self(), other;
    io_context_t ctx = NULL;
    char path[4096];
    int fd, fds[2];
    long batches = 0;

    MUST(argc >= 2);
    /* A fork that waits for ever is found, too. */
    alarm(100);
    snprintf(path, sizeof(path), "%s/forkinside", argv[1]);
    MUST((fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600)) >= 0 && pipe(fds) == 0);
    MUST(sigaction(SIGUSR1, &action, NULL) == 0 && io_setup(BATCH, &ctx) == 0);
    MUST(pthread_create(&other, NULL, signals, &self) == 0);
    for (; forks < FORKS; batches++) {
        int left = BATCH;

        for (int i = 0; i < BATCH; i++) {
            list[i] = &cbs[i];
            switch (i) {
            case 6: io_prep_pwrite(&cbs[i], fds[1], buffers[i], 100, 0); break;
            case 7: io_prep_pread(&cbs[i], fds[0], buffers[i], 100, 0); break;
            default:
                if ((i + batches) % 2 == 0)
                    io_prep_pwrite(&cbs[i], fd, buffers[i], PAGE, (long long)(i % 4) * PAGE);
                else
                    io_prep_pread(&cbs[i], fd, buffers[i], PAGE, (long long)(i % 4) * PAGE);
            }
        }
        submit_all(ctx, BATCH, list);
        while (left > 0) {
            int got = io_getevents(ctx, 1, left, events, NULL);

            MUST(got > 0 || got == -EINTR);
            for (int i = 0; i < got; i++)
                MUST((long)events[i].res >= 0);
            left -= got > 0 ? got : 0;
        }
    }
    pthread_join(other, NULL);
    MUST(io_destroy(ctx) == 0);
    return 0;
}
