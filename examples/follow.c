/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Prints the lines that are added to files and that come out of pipes, of all of them at once, each with the name of its source:
 * follow [-n BYTES] PATH... ("-" is the standard input); with -n it ends when it has printed BYTES bytes.
 *
 * One thread, and one request for each path: it opens (a FIFO: when it has a writer), reads (a pipe: when there is
 * data), or sleeps, at the end of a file. None of them delays another.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <aio2.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum step { OPEN, READ, SLEEP };

struct source {
    const char *name;
    enum step step;
    int fd;
    int is_file;    /* at its end there may be more later */
    size_t have;    /* bytes of a line that has not ended */
    char line[4096];
};

static const struct timespec nap = { 0, 50 * 1000 * 1000 };
static io_context2_t ctx;
static long long printed;

/* Submits the prepared request, as the next step of a source. */
static void submit(struct source *source, enum step step, struct iocb2 *iocb)
{
    source->step = step;
    iocb2_set_pointer(iocb, source);
    if (io_submit2(ctx, iocb, sizeof(*iocb)) != (ssize_t)sizeof(*iocb)) {
        fprintf(stderr, "follow: cannot submit\n");
        exit(2);
    }
}

static void read_more(struct source *source)
{
    struct iocb2 iocb;

    io_prep2_read(&iocb, source->fd, source->line + source->have, sizeof(source->line) - source->have);
    submit(source, READ, &iocb);
}

static void print(struct source *source, size_t bytes)
{
    printf("%s: %.*s\n", source->name, (int)bytes, source->line);
    fflush(stdout);
}

/* Prints the complete lines, and keeps the rest. */
static void print_lines(struct source *source, size_t got)
{
    char *end;

    printed += (long long)got;
    source->have += got;
    while ((end = memchr(source->line, '\n', source->have)) != NULL) {
        size_t bytes = (size_t)(end - source->line);

        print(source, bytes);
        source->have -= bytes + 1;
        memmove(source->line, end + 1, source->have);
    }
    if (source->have == sizeof(source->line)) { /* a line longer than that is cut */
        print(source, source->have);
        source->have = 0;
    }
}

/* Returns 0 when there is nothing more to come from it. */
static int go_on(struct source *source, int64_t res)
{
    struct iocb2 iocb;
    struct io_event2 event;

    if (source->step == SLEEP) {
        read_more(source);
        return 1;
    }
    if (res < 0) {
        fprintf(stderr, "follow: %s: %s\n", source->name, strerror((int)-res));
        return 0;
    }
    if (source->step == OPEN) {
        source->fd = (int)res;
        /* A question that is answered at once need not be asked from afar: a pipe has no position. */
        io_prep2_syscall(&iocb, SYS_lseek, io_arg2_int(source->fd), 0, SEEK_CUR, 0, 0, 0);
        source->is_file = io_issue2(&iocb, &event, sizeof(event)) > 0 && event.res >= 0;
        read_more(source);
        return 1;
    }
    if (res > 0) {
        print_lines(source, (size_t)res);
        read_more(source);
        return 1;
    }
    if (source->is_file) {
        io_prep2_clock_nanosleep(&iocb, CLOCK_MONOTONIC, 0, &nap, NULL);
        submit(source, SLEEP, &iocb);
        return 1;
    }
    if (source->have != 0)
        print(source, source->have);
    return 0;
}

int main(int argc, char **argv)
{
    long long most = -1;
    int first = 1;
    int left = 0;
    int ret;

    if (argc > 2 && strcmp(argv[1], "-n") == 0) {
        most = atoll(argv[2]);
        first = 3;
    }
    if (first >= argc) {
        fprintf(stderr, "usage: follow [-n BYTES] PATH...\n");
        return 2;
    }
    ret = io_setup2(IO_SETUP2_VERSION, NULL, &ctx);
    if (ret < 0) {
        fprintf(stderr, "follow: io_setup2: %s\n", strerror(-ret));
        return 2;
    }
    for (int i = first; i < argc; i++) {
        struct source *source = calloc(1, sizeof(*source));

        if (source == NULL)
            return 2;
        source->name = argv[i];
        left++;
        if (strcmp(argv[i], "-") == 0) {
            source->step = OPEN;
            left -= !go_on(source, STDIN_FILENO);
        } else {
            struct iocb2 iocb;

            io_prep2_openat(&iocb, AT_FDCWD, argv[i], O_RDONLY | O_CLOEXEC, 0);
            submit(source, OPEN, &iocb);
        }
    }
    while (left > 0 && (most < 0 || printed < most)) {
        struct io_event2 event;

        if (io_getevent2(ctx, &event, sizeof(event), NULL) < 0)
            return 2;
        left -= !go_on(io_event2_pointer(&event), event.res);
    }
    /* Not io_destroy2(): reads from pipes may be waiting still, and end with the process. */
    return 0;
}
