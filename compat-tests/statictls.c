/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * statictls DIRECTORY: a program with thread-local variables that are larger than the stack that the library itself needs. They
 * are on the stack of each thread, also of one that the program did not start. It sleeps on an eventfd; reads of a file and a
 * poll request complete.
 */
#include <fcntl.h>
#include <libaio.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "must.h"

enum { PAGE = 4096 };

static __thread char variables[256 << 10];
static char buffer[PAGE] __attribute__((aligned(PAGE)));

static void wait_for(io_context_t ctx, int efd, long res)
{
    struct pollfd poller = { .fd = efd, .events = POLLIN };
    struct io_event ev;
    uint64_t count;

    MUST(poll(&poller, 1, 100000) == 1);
    MUST(read(efd, &count, sizeof(count)) == sizeof(count) && count == 1);
    MUST(io_getevents(ctx, 1, 1, &ev, NULL) == 1);
    MUST(((long)ev.res & ~POLLRDNORM) == res);
}

int main(int argc, char **argv)
{
    struct iocb cb, *list[] = { &cb };
    int efd = eventfd(0, EFD_CLOEXEC);
    io_context_t ctx = NULL;
    char path[4096];
    int ends[2];

    variables[sizeof(variables) - 1] = 1;
    MUST(argc > 1 && pipe(ends) == 0 && efd >= 0 && io_setup(8, &ctx) == 0);
    snprintf(path, sizeof(path), "%s/statictls", argv[1]);
    for (int direct = 0; direct < 2; direct++) {
        int fd = open(path, O_RDWR | O_CREAT | (direct ? O_DIRECT : 0), 0600);

        MUST(fd >= 0 && ftruncate(fd, PAGE) == 0);
        io_prep_pread(&cb, fd, buffer, PAGE, 0);
        io_set_eventfd(&cb, efd);
        MUST(io_submit(ctx, 1, list) == 1);
        wait_for(ctx, efd, PAGE);
        close(fd);
    }
    io_prep_poll(&cb, ends[0], POLLIN);
    io_set_eventfd(&cb, efd);
    MUST(io_submit(ctx, 1, list) == 1);
    MUST(write(ends[1], "x", 1) == 1);
    wait_for(ctx, efd, POLLIN);
    MUST(io_destroy(ctx) == 0 && variables[sizeof(variables) - 1] == 1);
    return 0;
}
