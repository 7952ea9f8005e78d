/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * filesize DIRECTORY [DEVICE]: a process that may not make any file larger, whose SIGXFSZ ends it, sets up a context, reads, and exits,
 * also with the statistics that AIO2_STATS asks for, for which there is no room: no signal comes.
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
    for (int stats = 0; stats < 2; stats++) {
        char path[PATH_MAX];
        int status;
        pid_t child = fork();

        MUST(child >= 0);
        if (child == 0) {
            snprintf(path, sizeof(path), "%s/stats", argv[1]);
            if (stats)
                setenv("AIO2_STATS", path, 1);
            signal(SIGXFSZ, SIG_DFL);
            execl("/proc/self/exe", argv[0], "run", (char *)NULL);
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
