/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * manyfiles DIRECTORY: more files in flight, each closed right after io_submit(), and more polls than a process with that limit could have
 * open at a time: each write is carried out on its file, and gives one event.
 */
#include <fcntl.h>
#include <libaio.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>
#include "must.h"
#include "submit.h"

enum { FILES = 1000, POLLS = 200, LIMIT = 256, BYTES = 4096 };

static struct iocb cbs[FILES + POLLS];
static bool seen[FILES + POLLS];

static int open_file(const char *directory, int i)
{
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/manyfiles-%d", directory, i);
    int fd = open(path, O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
    if (fd < 0)
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    MUST(fd >= 0);
    return fd;
}

int main(int argc, char **argv)
{
    const char *directory = argc > 1 ? argv[1] : ".";
    struct rlimit limit;
    io_context_t ctx = NULL;
    int ends[2];
    char path[PATH_MAX], *buffers = aligned_alloc(BYTES, (size_t)FILES * BYTES);

    MUST(buffers != NULL && getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = LIMIT;
    MUST(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    MUST(io_setup(FILES + POLLS, &ctx) == 0 && pipe(ends) == 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", ends[0]);
    for (int i = FILES; i < FILES + POLLS; i++) {
        struct iocb *one = &cbs[i];
        int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

        MUST(fd >= 0);
        io_prep_poll(one, fd, POLLIN);
        submit_all(ctx, 1, &one);
        close(fd);
    }
    for (int i = 0; i < FILES; i++) {
        struct iocb *one = &cbs[i];
        int fd = open_file(directory, i);

        *(int *)(buffers + i * BYTES) = i + 1;
        io_prep_pwrite(one, fd, buffers + i * BYTES, BYTES, 0);
        submit_all(ctx, 1, &one);
        close(fd);
    }
    MUST(write(ends[1], "", 1) == 1);
    for (int done = 0; done < FILES + POLLS;) {
        struct io_event events[64];
        int n = io_getevents(ctx, 1, 64, events, NULL);

        MUST(n > 0);
        for (int i = 0; i < n; i++, done++) {
            long which = events[i].obj - cbs, res = (long)events[i].res;

            if (which < FILES ? res != BYTES : res <= 0)
                fprintf(stderr, "request %ld: %ld\n", which, res);
            MUST(!seen[which] && (which < FILES ? res == BYTES : res > 0));
            seen[which] = true;
        }
    }
    for (int i = 0; i < FILES; i++) {
        int got = 0;

        snprintf(path, sizeof(path), "%s/manyfiles-%d", directory, i);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        MUST(fd >= 0 && read(fd, &got, sizeof(got)) == sizeof(got) && got == i + 1);
        close(fd);
        unlink(path);
    }
    return 0;
}
