/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * tables DIRECTORY: more threads than usual have a descriptor table of their own each, and poll and write in turn. Each gets
 * its events, and descriptors pile up in none of the tables.
 */
#include <dirent.h>
#include <fcntl.h>
#include <libaio.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "must.h"
#include "submit.h"

enum { THREADS = 10, ROUNDS = 20 };

static const char *directory;
static pthread_barrier_t all;

static int open_descriptors(void)
{
    DIR *dir = opendir("/proc/thread-self/fd");
    int count = 0;

    MUST(dir != NULL);
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

static void *in_turn(void *arg)
{
    int me = (int)(long)arg, before = 0;
    int ends[2];
    char path[PATH_MAX], byte = (char)me;
    io_context_t ctx = NULL;
    struct iocb cbs[2], *list[] = { &cbs[0], &cbs[1] };
    struct io_event events[2];

    MUST(unshare(CLONE_FILES) == 0);
    MUST(pipe(ends) == 0 && io_setup(2, &ctx) == 0);
    snprintf(path, sizeof(path), "%s/tables-%d", directory, me);
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    MUST(file >= 0 && unlink(path) == 0);
    for (int round = 0; round < ROUNDS; round++) {
        for (int turn = 0; turn < THREADS; turn++) {
            pthread_barrier_wait(&all);
            if (turn != me)
                continue;
            io_prep_poll(list[0], ends[0], POLLIN);
            io_prep_pwrite(list[1], file, &byte, 1, round);
            submit_all(ctx, 2, list);
            MUST(write(ends[1], "", 1) == 1);
            MUST(io_getevents(ctx, 2, 2, events, NULL) == 2);
            MUST((long)events[0].res > 0 && (long)events[1].res > 0);
            MUST(read(ends[0], &(char){ 0 }, 1) == 1);
            if (round == 1)
                before = open_descriptors();
        }
    }
    int after = open_descriptors();
    if (after > before)
        fprintf(stderr, "thread %d: %d descriptors, and %d later\n", me, before, after);
    MUST(after <= before);
    for (int round = 0; round < ROUNDS; round++) {
        char got;

        MUST(pread(file, &got, 1, round) == 1 && got == me);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS];

    directory = argc > 1 ? argv[1] : ".";
    MUST(pthread_barrier_init(&all, NULL, THREADS) == 0);
    for (long i = 0; i < THREADS; i++)
        MUST(pthread_create(&threads[i], NULL, in_turn, (void *)i) == 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
