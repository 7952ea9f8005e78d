/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * pollpri DIRECTORY: a poll request for POLLPRI on /proc/self/mountinfo waits until something is mounted (root), or until it is cancelled.
 */
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mount.h>
#include <unistd.h>
#include "must.h"

int main(int argc, char **argv)
{
    struct timespec none = { 0, 0 }, long_time = { 20, 0 };
    int fd = open("/proc/self/mountinfo", O_RDONLY);
    struct iocb cb, *one = &cb;
    io_context_t ctx = NULL;
    struct io_event event;

    MUST(argc >= 2 && fd >= 0);
    MUST(io_setup(4, &ctx) == 0);
    io_prep_poll(&cb, fd, POLLPRI);
    MUST(io_submit(ctx, 1, &one) == 1);
    MUST(io_getevents(ctx, 0, 1, &event, &none) == 0);
    if (mount("pollpri", argv[1], "tmpfs", 0, NULL) == 0) {
        int got = io_getevents(ctx, 1, 1, &event, &long_time);

        MUST(umount(argv[1]) == 0);
        MUST(got == 1 && event.obj == &cb && (event.res & POLLPRI));
        MUST(io_submit(ctx, 1, &one) >= 0);
    }
    MUST(io_destroy(ctx) == 0);
    return 0;
}
