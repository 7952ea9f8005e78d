/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A program that closes every descriptor above 2, as daemons do when they begin: with existing contexts, with requests in
 * flight, and before the first context. The later calls must not need a descriptor that the library holds open.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "must.h"

static int how;
static void close_all(void)
{
    switch (how) {
    case 1:
        if (syscall(SYS_close_range, 3U, ~0U, 0U) == 0)
            break;
        /* A container may not have it. */
        MUST(errno == ENOSYS || errno == EPERM);
        /* fall through */
    case 0:
        for (int fd = 3; fd < 70000; fd++)
            close(fd);
        break;
    case 2: { /* the open descriptors, by /proc */
        DIR *d = opendir("/proc/self/fd");
        struct dirent *e;

        MUST(d != NULL);
        while ((e = readdir(d)) != NULL)
            if (atoi(e->d_name) > 2 && atoi(e->d_name) != dirfd(d))
                close(atoi(e->d_name));
        closedir(d);
        break;
    }
    }
}

static const char *dir;
static char path[4096];

/* Writes, reads, syncs and polls with `ctx`, and reads the result in another way. */
static void use(io_context_t ctx, const char *when)
{
    enum { N = 32, SIZE = 8192 };
    static char buf[N][SIZE] __attribute__((aligned(4096)));
    struct iocb cb[N], *list[N];
    struct io_event ev[N];
    struct timespec t = { 10, 0 };
    int fd, p[2], got;

    snprintf(path, sizeof(path), "%s/closeall", dir);
    for (int direct = 0; direct < 2; direct++) {
        fd = open(path, O_RDWR | O_CREAT | O_TRUNC | (direct ? O_DIRECT : 0), 0600);
        MUST(fd >= 0);
        for (int i = 0; i < N; i++) {
            memset(buf[i], 'a' + i % 26, SIZE);
            io_prep_pwrite(&cb[i], fd, buf[i], SIZE, (long long)i * SIZE);
            list[i] = &cb[i];
        }
        MUST(io_submit(ctx, N, list) == N);
        for (int have = 0; have < N; have += got) {
            got = io_getevents(ctx, 1, N, ev, &t);
            if (got <= 0)
                fprintf(stderr, "%s, way %d, direct %d: io_getevents %d after %d of %d writes\n", when, how, direct, got, have, N);
            MUST(got > 0);
            for (int i = 0; i < got; i++) {
                if ((long)ev[i].res != SIZE)
                    fprintf(stderr, "%s, way %d, direct %d: a write came back with %ld\n", when, how, direct, (long)ev[i].res);
                MUST((long)ev[i].res == SIZE);
            }
        }
        io_prep_fsync(&cb[0], fd);
        MUST(io_submit(ctx, 1, list) == 1);
        MUST(io_getevents(ctx, 1, 1, ev, &t) == 1 && (long)ev[0].res == 0);
        close(fd);
        fd = open(path, O_RDONLY);
        for (int i = 0; i < N; i++) {
            char back[SIZE];

            MUST(read(fd, back, SIZE) == SIZE && back[0] == 'a' + i % 26 && memcmp(back, back + 1, SIZE - 1) == 0);
        }
        close(fd);
    }
    MUST(pipe(p) == 0);
    io_prep_poll(&cb[0], p[0], POLLIN);
    MUST(io_submit(ctx, 1, list) == 1);
    MUST(write(p[1], "x", 1) == 1);
    got = io_getevents(ctx, 1, 1, ev, &t);
    if (got != 1)
        fprintf(stderr, "%s, way %d: no event of a poll (%d)\n", when, how, got);
    MUST(got == 1 && ((long)ev[0].res & POLLIN));
    close(p[0]);
    close(p[1]);
}

static void scenario(int which)
{
    io_context_t ctx = NULL, second = NULL;

    switch (which) {
    case 0:
        close_all();
        MUST(io_setup(64, &ctx) == 0);
        use(ctx, "before io_setup");
        break;
    case 1:
        MUST(io_setup(64, &ctx) == 0);
        close_all();
        use(ctx, "after io_setup");
        MUST(io_setup(64, &second) == 0);
        use(second, "another after");
        break;
    case 2:
        MUST(io_setup(64, &ctx) == 0);
        use(ctx, "before");
        close_all();
        use(ctx, "after use");
        MUST(io_setup(64, &second) == 0);
        use(second, "another after use");
        break;
    case 3: { /* with writes in flight: each is carried out, and nothing else is hurt; by path, some end with -EBADF */
        enum { N = 64, SIZE = 65536, OTHERS = 300 };
        const int all = dlsym(RTLD_DEFAULT, "aio2_next_own") != NULL || dlsym(RTLD_DEFAULT, "io_submit2") == NULL;
        char *buf = aligned_alloc(4096, SIZE);
        struct iocb cb[N], *list[N];
        struct io_event ev[N];
        struct timespec t = { 10, 0 };
        char name[4096];
        int got, good = 0;

        snprintf(name, sizeof(name), "%s/flight", dir);
        int fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT, 0600);
        MUST(fd >= 0);
        MUST(io_setup(64, &ctx) == 0);
        memset(buf, 'f', SIZE);
        for (int i = 0; i < N; i++) {
            io_prep_pwrite(&cb[i], fd, buf, SIZE, (long long)i * SIZE);
            list[i] = &cb[i];
        }
        MUST(io_submit(ctx, N, list) == N);
        close_all();
        if (all) /* Take the numbers that were closed, and those that were not. */
            for (int i = 0; i < OTHERS; i++) {
                snprintf(name, sizeof(name), "%s/other%d", dir, i);
                MUST(open(name, O_RDWR | O_CREAT | O_TRUNC, 0600) >= 0);
            }
        for (int have = 0; have < N; have += got) {
            got = io_getevents(ctx, 1, N, ev, &t);
            MUST(got > 0);
            for (int i = 0; i < got; i++)
                if ((long)ev[i].res == SIZE)
                    good++;
                else
                    MUST(!all && (long)ev[i].res == -EBADF);
        }
        for (int i = 0; all && i < OTHERS; i++) {
            struct stat stat;

            snprintf(name, sizeof(name), "%s/other%d", dir, i);
            MUST(lstat(name, &stat) == 0 && stat.st_size == 0);
            MUST(unlink(name) == 0);
        }
        close_all();
        printf("way %d: %d of %d in flight were carried out\n", how, good, N);
        fflush(stdout);
        use(ctx, "afterwards");
        break;
    }
    }
    MUST(io_destroy(ctx) == 0);
}

int main(int argc, char **argv)
{
    int bad = 0;

    MUST(argc >= 2);
    dir = argv[1];
    for (how = 0; how < 3; how++)
        for (int which = 0; which < 4; which++) {
            int status = 0;
            pid_t child = fork();

            if (child == 0) {
                alarm(100);
                scenario(which);
                exit(0);
            }
            waitpid(child, &status, 0);
            if (status != 0) {
                fprintf(stderr, "way %d, scenario %d: status %#x\n", how, which, status);
                bad++;
            }
        }
    return bad != 0;
}
