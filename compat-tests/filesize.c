/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * filesize DIRECTORY [DEVICE]: a process that may not make any file larger, whose SIGXFSZ ends it, sets up a context, reads, and exits,
 * also with the statistics that AIO2_STATS asks for, for which there is no room: no signal comes. Nor does one if it writes beyond
 * the limit behind reads of the same file that wait for their device, and that its io_submit() hands over to the kernel.
 */
#include <fcntl.h>
#include <libaio.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "must.h"
#include "submit.h"

enum { BLOCK = 4096, BLOCKS = 256, DEPTH = 8, WARM = 4000, BEYOND = 3000 };

static int file_of_blocks(const char *directory, char *block)
{
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/blocks", directory);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_DIRECT, 0600);

    MUST(fd >= 0);
    for (int i = 0; i < BLOCKS; i++)
        MUST(pwrite(fd, block, BLOCK, i * BLOCK) == BLOCK);
    return fd;
}

/* Keeps DEPTH requests in flight, of which every other one writes: at first within the file, and then beyond the limit. */
static void queued(const char *directory)
{
    static char blocks[DEPTH][BLOCK] __attribute__((aligned(BLOCK)));
    const int fd = file_of_blocks(directory, blocks[0]);
    const struct rlimit limit = { BLOCKS * BLOCK, RLIM_INFINITY };
    struct iocb cbs[DEPTH], *list[DEPTH];
    io_context_t ctx = NULL;
    int n = DEPTH;

    MUST(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    MUST(io_setup(DEPTH, &ctx) == 0);
    for (int i = 0; i < DEPTH; i++)
        list[i] = &cbs[i];
    for (int submitted = 0; submitted < WARM + BEYOND;) {
        struct io_event events[DEPTH];

        for (int i = 0; i < n; i++, submitted++) {
            char *block = blocks[list[i] - cbs];
            const long long at = (long long)random() % BLOCKS * BLOCK;

            if (submitted % 2 == 0)
                io_prep_pread(list[i], fd, block, BLOCK, at);
            else
                io_prep_pwrite(list[i], fd, block, BLOCK, submitted < WARM ? at : at + BLOCKS * BLOCK);
        }
        submit_all(ctx, n, list);
        n = io_getevents(ctx, 1, DEPTH, events, NULL);
        MUST(n > 0);
        for (int i = 0; i < n; i++) {
            list[i] = events[i].obj;
            const bool beyond = list[i]->u.c.offset >= BLOCKS * BLOCK;
            MUST(events[i].res == (beyond ? (unsigned long)-EFBIG : BLOCK));
        }
    }
    MUST(io_destroy(ctx) == 0);
    exit(0);
}

static void run(void)
{
    static char buffer[512];
    const struct rlimit limit = { 0, RLIM_INFINITY };
    struct iocb cb, *list[] = { &cb };
    struct io_event event;
    io_context_t ctx = NULL;
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

    MUST(fd >= 0);
    MUST(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    MUST(io_setup(1000, &ctx) == 0);
    io_prep_pread(&cb, fd, buffer, sizeof(buffer), 0);
    submit_all(ctx, 1, list);
    MUST(io_getevents(ctx, 1, 1, &event, NULL) == 1);
    MUST(event.res == sizeof(buffer));
    MUST(io_destroy(ctx) == 0);
    exit(0);
}

int main(int argc, char **argv)
{
    MUST(argc >= 2);
    if (strcmp(argv[1], "run") == 0)
        run();
    if (strcmp(argv[1], "queued") == 0)
        queued(argv[2]);
    for (int how = 0; how < 3; how++) {
        const bool stats = how == 1;
        char path[PATH_MAX];
        int status;
        pid_t child = fork();

        MUST(child >= 0);
        if (child == 0) {
            snprintf(path, sizeof(path), "%s/stats", argv[1]);
            if (stats)
                setenv("AIO2_STATS", path, 1);
            signal(SIGXFSZ, SIG_DFL);
            execl("/proc/self/exe", argv[0], how == 2 ? "queued" : "run", argv[1], (char *)NULL);
            _exit(1);
        }
        MUST(waitpid(child, &status, 0) == child);
        if (status != 0) {
            fprintf(stderr, "it ended with status %#x\n", (unsigned)status);
            return 1;
        }
    }
    return 0;
}
