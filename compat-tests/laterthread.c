/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * No thread can be created for a request that was accepted, and later threads can be created again, but no call of the program's
 * looks for it: the program sleeps on an eventfd, ends the context, or waits in an io_submit() that comes behind the request. Then the
 * library looks for it by itself.
 */
#include <libaio.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include "must.h"
#include "create.h"

enum { LIMIT_S = 90, MOST = 64 };

/* The threads that may not create others. */
static _Atomic enum { WORKERS, ALL, NONE } refused;
/* Workers, and how many of them could not create a thread, and so wait in its place. */
static atomic_int workers, busy_workers;
static io_context_t busy_ctx, ctx;
static int busy[2], ends[2];
static struct iocb cb;

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
    char name[16] = "";
    bool is_worker;

    prctl(PR_GET_NAME, name);
    is_worker = strcmp(name, "aio2-worker") == 0;
    if (refused == ALL || (refused == WORKERS && is_worker)) {
        busy_workers += is_worker;
        return EAGAIN;
    }
    workers += strcmp(name, "aio2-keeper") == 0;
    return real_create(thread, attr, run, arg);
}

static void submit(io_context_t to, struct iocb *request)
{
    MUST(io_submit(to, 1, &request) == 1);
}

/* From here on a request that may wait needs a thread that cannot be created: every worker waits for another request. */
static void occupy(void)
{
    static struct iocb poll_cbs[MOST];

    MUST(pipe(busy) == 0 && pipe(ends) == 0 && io_setup(MOST, &busy_ctx) == 0 && io_setup(8, &ctx) == 0);
    for (int i = 0; !is_set("REAL") && (i == 0 || busy_workers < workers); i++) {
        MUST(i < MOST);
        io_prep_poll(&poll_cbs[i], busy[0], POLLIN);
        submit(busy_ctx, &poll_cbs[i]);
        while (busy_workers <= i)
            usleep(1000);
        /* A worker that is not needed begins to sleep. */
        usleep(20000);
    }
    refused = ALL;
}

static void sleep_on_eventfd(void)
{
    int efd = eventfd(0, EFD_CLOEXEC);
    struct pollfd poller = { .fd = efd, .events = POLLIN };

    io_prep_poll(&cb, ends[0], POLLIN);
    io_set_eventfd(&cb, efd);
    submit(ctx, &cb);
    MUST(write(ends[1], "x", 1) == 1);
    refused = NONE;
    MUST(poll(&poller, 1, -1) == 1);
}

static void end_context(void)
{
    char byte;

    MUST(write(ends[1], "x", 1) == 1);
    io_prep_pread(&cb, ends[0], &byte, 1, 0);
    submit(ctx, &cb);
    refused = NONE;
    MUST(io_destroy(ctx) == 0);
}

static void wait_in_submit(void)
{
    static struct iocb second;
    char bytes[2];

    io_prep_pwrite(&cb, ends[1], "1", 1, 0);
    io_prep_pwrite(&second, ends[1], "2", 1, 0);
    submit(ctx, &cb);
    refused = NONE;
    submit(ctx, &second);
    MUST(read(ends[0], bytes, 1) == 1 && read(ends[0], bytes + 1, 1) == 1);
    MUST(bytes[0] == '1' && bytes[1] == '2');
}

int main(void)
{
    static void (*const parts[])(void) = { sleep_on_eventfd, end_context, wait_in_submit };
    bool good = true;

    for (int i = 0; i < 3; i++) {
        pid_t child = fork();
        int status;

        MUST(child >= 0);
        if (child == 0) {
            alarm(LIMIT_S);
            occupy();
            parts[i]();
            _exit(0);
        }
        MUST(waitpid(child, &status, 0) == child);
        if (status != 0) {
            fprintf(stderr, "part %d: status %#x\n", i, status);
            good = false;
        }
    }
    return !good;
}
