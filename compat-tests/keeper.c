/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * keeper DIRECTORY: while the library is slow to start a thread, other threads submit and cancel polls, one of them with a descriptor
 * table of its own. None of them waits for another for ever.
 */
#include <fcntl.h>
#include <libaio.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include "create.h"
#include "must.h"

enum { POLL, READ, SECOND_READ, WRITE, OTHER_POLL, OTHER_READ, ALL };

/* In ten of them, threads of the library's end that have nothing to do. */
static const int STEP_US = 300000;

static __thread bool is_programs;
static bool is_slow;
static io_context_t ctx;
static int pipes[ALL][2], file;
static struct iocb iocbs[ALL];
static pthread_barrier_t unshared, last;
static char buffer[512];

/* In the C library's place for the library, too. */
int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
    if (!is_programs && __atomic_exchange_n(&is_slow, false, __ATOMIC_RELAXED))
        usleep(14 * STEP_US);
    return real_create(thread, attr, run, arg);
}

static void submit(int which)
{
    struct iocb *iocb = &iocbs[which];

    if (which == POLL || which == OTHER_POLL)
        io_prep_poll(iocb, pipes[which][0], POLLIN);
    else if (which == WRITE)
        io_prep_pwrite(iocb, file, buffer, sizeof(buffer), 0);
    else
        io_prep_pread(iocb, pipes[which][0], buffer, 1, 0);
    MUST(io_submit(ctx, 1, &iocb) == 1);
}

static void *write_file(void *arg)
{
    __atomic_store_n(&is_slow, true, __ATOMIC_RELAXED);
    submit(WRITE);
    return arg;
}

static void *cancel_poll(void *arg)
{
    struct io_event event;

    is_programs = true;
    (void)io_cancel(ctx, &iocbs[POLL], &event);
    return arg;
}

static void *poll_another(void *arg)
{
    is_programs = true;
    submit(OTHER_POLL);
    return arg;
}

static void *read_elsewhere(void *arg)
{
    is_programs = true;
    MUST(unshare(CLONE_FILES) == 0);
    pthread_barrier_wait(&unshared);
    pthread_barrier_wait(&last);
    submit(OTHER_READ);
    return arg;
}

int main(int argc, char **argv)
{
    void *(*const runs[])(void *) = { write_file, cancel_poll, poll_another };
    pthread_t threads[3], elsewhere;
    char path[PATH_MAX];

    MUST(argc > 1);
    alarm(100);
    is_programs = true;
    snprintf(path, sizeof(path), "%s/keeper", argv[1]);
    file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    MUST(file >= 0 && unlink(path) == 0);
    MUST(io_setup(ALL, &ctx) == 0);
    for (int i = 0; i < ALL; i++)
        MUST(pipe(pipes[i]) == 0);
    pthread_barrier_init(&unshared, NULL, 2);
    pthread_barrier_init(&last, NULL, 2);
    MUST(pthread_create(&elsewhere, NULL, read_elsewhere, NULL) == 0);
    pthread_barrier_wait(&unshared);
    submit(POLL);
    usleep(STEP_US);
    submit(READ);
    submit(SECOND_READ);
    usleep(STEP_US);
    for (int i = 0; i < 3; i++) {
        MUST(pthread_create(&threads[i], NULL, runs[i], NULL) == 0);
        usleep(STEP_US);
    }
    usleep(8 * STEP_US + STEP_US / 3);
    pthread_barrier_wait(&last);
    usleep(STEP_US);
    MUST(write(pipes[READ][1], "a", 1) == 1);
    for (int i = 0; i < 3; i++)
        MUST(pthread_join(threads[i], NULL) == 0);
    MUST(write(pipes[OTHER_READ][1], "a", 1) == 1);
    MUST(pthread_join(elsewhere, NULL) == 0);
    return 0;
}
