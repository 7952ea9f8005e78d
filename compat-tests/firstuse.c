/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * firstuse DIRECTORY: two threads of a new process make its first requests at the same time, one a poll and one a write, and
 * get their events.
 */
#include <fcntl.h>
#include <libaio.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include "must.h"
#include "submit.h"

enum { ROUNDS = 100, LIMIT_SECONDS = 60 };

static pthread_barrier_t both;
static int file, ends[2];

static void wait_for(io_context_t ctx, struct iocb *cb, unsigned long wanted)
{
    struct io_event event;

    MUST(io_getevents(ctx, 1, 1, &event, NULL) == 1 && event.obj == cb && (event.res & wanted) == wanted);
}

static void *polls(void *arg)
{
    io_context_t ctx = NULL;
    struct iocb cb, *list = &cb;

    MUST(io_setup(1, &ctx) == 0);
    io_prep_poll(&cb, ends[0], POLLIN);
    pthread_barrier_wait(&both);
    submit_all(ctx, 1, &list);
    MUST(write(ends[1], "", 1) == 1);
    wait_for(ctx, &cb, POLLIN);
    return arg;
}

static void *writes(void *arg)
{
    io_context_t ctx = NULL;
    struct iocb cb, *list = &cb;
    static char byte;

    MUST(io_setup(1, &ctx) == 0);
    io_prep_pwrite(&cb, file, &byte, 1, 0);
    pthread_barrier_wait(&both);
    submit_all(ctx, 1, &list);
    wait_for(ctx, &cb, 1);
    return arg;
}

int main(int argc, char **argv)
{
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/firstuse", argc > 1 ? argv[1] : ".");
    file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    MUST(file >= 0 && unlink(path) == 0);
    for (int i = 0; i < ROUNDS; i++) {
        pid_t child = fork();
        int status;

        MUST(child >= 0);
        if (child == 0) {
            pthread_t threads[2];

            /* This ends a thread that hangs. */
            alarm(LIMIT_SECONDS);
            MUST(pipe(ends) == 0 && pthread_barrier_init(&both, NULL, 2) == 0);
            MUST(pthread_create(&threads[0], NULL, polls, NULL) == 0);
            MUST(pthread_create(&threads[1], NULL, writes, NULL) == 0);
            pthread_join(threads[0], NULL);
            pthread_join(threads[1], NULL);
            _exit(0);
        }
        MUST(waitpid(child, &status, 0) == child);
        if (status != 0)
            fprintf(stderr, "process %d: status %#x\n", i, status);
        MUST(status == 0);
    }
    return 0;
}
