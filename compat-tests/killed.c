/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * killed: a process that has submitted a write to a pipe without a reader can be ended by a signal, whether it is still in
 * io_submit, which may wait for the write, or already in io_getevents. A signal with a handler interrupts both: the handler
 * runs at once.
 */
#include <libaio.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "must.h"
#include "now.h"

enum { BYTES = 1 << 20 };

static volatile sig_atomic_t *handled;

static void handle(int signal)
{
    (void)signal;
    *handled = 1;
}

static void submits(int fd)
{
    static char block[BYTES];
    io_context_t ctx = NULL;
    struct iocb cb, *one = &cb;
    struct io_event event;

    MUST(io_setup(4, &ctx) == 0);
    io_prep_pwrite(&cb, fd, block, BYTES, 0);
    while (io_submit(ctx, 1, &one) == 1)
        io_getevents(ctx, 1, 1, &event, NULL);
    _exit(1);
}

/* Until the pipe has something. */
static void wait_for_bytes(int fd)
{
    struct pollfd pollfd = { .fd = fd, .events = POLLIN };

    MUST(poll(&pollfd, 1, 100000) == 1);
}

int main(void)
{
    int ends[2], status;
    pid_t child;
    double end = now() + 20;

    handled = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(handled != MAP_FAILED && pipe(ends) == 0);
    child = fork();
    MUST(child >= 0);
    if (child == 0) {
        struct sigaction action = { .sa_handler = handle };

        MUST(sigaction(SIGUSR1, &action, NULL) == 0);
        submits(ends[1]);
    }
    wait_for_bytes(ends[0]);
    MUST(kill(child, SIGUSR1) == 0);
    while (!*handled) {
        MUST(now() < end);
        usleep(1000);
    }
    MUST(kill(child, SIGTERM) == 0);
    while (waitpid(child, &status, WNOHANG) != child) {
        MUST(now() < end);
        usleep(1000);
    }
    MUST(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    return 0;
}
