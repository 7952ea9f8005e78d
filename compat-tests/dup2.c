/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * dup2 DIRECTORY: a program that puts files at numbers of its own choice by dup2(), while requests are in flight. For the
 * program these numbers are free. Requests in flight still go to their own file, and the program's files stay.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <libaio.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "must.h"
#include "now.h"
#include "submit.h"

enum { N = 64, SIZE = 65536, FIRST = 192, PLACES = 16, ROUNDS = 40 };

static io_context_t ctx;
static char *buf;
static struct iocb cb[N];

static int file(const char *dir, const char *name, int flags)
{
    char path[4096];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | flags, 0600);
    MUST(fd >= 0 && fd < FIRST);
    MUST(unlink(path) == 0);
    return fd;
}

static void submit_writes(int fd)
{
    struct iocb *list[N];

    for (int i = 0; i < N; i++) {
        io_prep_pwrite(&cb[i], fd, buf, SIZE, (long long)i * SIZE);
        list[i] = &cb[i];
    }
    submit_all(ctx, N, list);
}

static void get_all(int n, long res)
{
    struct io_event ev[N];

    while (n > 0) {
        int got = io_getevents(ctx, 1, n, ev, NULL);

        MUST(got > 0);
        for (int i = 0; i < got; i++)
            MUST((long)ev[i].res == res);
        n -= got;
    }
}

/* Has the places name `other`, in the three ways there are. */
static void take_places(int other)
{
    for (int at = FIRST; at < FIRST + PLACES; at++) {
        switch (at % 3) {
        case 0: MUST(dup2(other, at) == at); break;
        case 1: MUST(dup3(other, at, O_CLOEXEC) == at); break;
        default: MUST(syscall(SYS_dup3, other, at, 0) == at); break;
        }
    }
}

static void give_places_back(void)
{
    for (int at = FIRST; at < FIRST + PLACES; at++)
        MUST(close(at) == 0);
}

static void check(int fd, int other)
{
    char *seen = malloc(SIZE);

    MUST(lseek(fd, 0, SEEK_END) == (off_t)N * SIZE);
    for (int i = 0; i < N; i++) {
        MUST(pread(fd, buf + SIZE, SIZE, (off_t)i * SIZE) == SIZE);
        MUST(memcmp(buf, buf + SIZE, SIZE) == 0);
    }
    MUST(lseek(other, 0, SEEK_END) == 4);
    for (int at = FIRST; at < FIRST + PLACES; at++) {
        MUST(pread(at, seen, SIZE, 0) == 4);
        MUST(memcmp(seen, "mine", 4) == 0);
    }
    free(seen);
}

/* A record lock is dropped by the close of any descriptor of its file: a program that closes none keeps it. */
static void keeps_lock(int fd)
{
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    int status;

    MUST(fcntl(fd, F_SETLK, &lock) == 0);
    submit_writes(fd);
    get_all(N, SIZE);
    pid_t child = fork();
    if (child == 0)
        _exit(fcntl(fd, F_GETLK, &lock) != 0 || lock.l_type != F_WRLCK);
    MUST(waitpid(child, &status, 0) == child && status == 0);
}

int main(int argc, char **argv)
{
    int ends[2];
    char word[4];

    MUST(argc >= 2);
    MUST((buf = aligned_alloc(4096, 2 * SIZE)) != NULL);
    MUST(io_setup(N, &ctx) == 0);
    int other = file(argv[1], "other", 0);
    MUST(write(other, "mine", 4) == 4);

    for (int round = 0; round < ROUNDS; round++) {
        int fd = file(argv[1], "file", round % 2 ? O_DIRECT : 0);

        memset(buf, 'a' + round % 26, SIZE);
        submit_writes(fd);
        take_places(other);
        get_all(N, SIZE);
        check(fd, other);
        /* And after that, with the places taken. */
        submit_writes(fd);
        get_all(N, SIZE);
        check(fd, other);
        close(fd);
        give_places_back();
    }
    keeps_lock(file(argv[1], "locked", 0));

    /* A read that waits for somebody else, for which the kernel would wait in io_submit: it holds nobody up for long, and gets what comes. */
    const bool ours = dlsym(RTLD_DEFAULT, "io_submit2") != NULL;
    MUST(pipe2(ends, O_CLOEXEC) == 0);
    if (!ours)
        MUST(write(ends[1], "pipe", 4) == 4);
    struct iocb *one = &cb[0];
    io_prep_pread(one, ends[0], word, sizeof(word), 0);
    submit_all(ctx, 1, &one);
    usleep(50000);
    double before = now();
    take_places(other);
    MUST(now() - before < 10);
    if (ours)
        MUST(write(ends[1], "pipe", 4) == 4);
    get_all(1, 4);
    MUST(memcmp(word, "pipe", 4) == 0);
    give_places_back();

    /* A child has requests of nobody's, and waits for none. */
    int fd = file(argv[1], "file", 0);
    submit_writes(fd);
    pid_t child = fork();
    if (child == 0) {
        take_places(other);
        _exit(0);
    }
    int status;
    MUST(waitpid(child, &status, 0) == child && status == 0);
    child = vfork();
    if (child == 0) {
        dup2(other, FIRST);
        _exit(0);
    }
    MUST(waitpid(child, &status, 0) == child && status == 0);
    get_all(N, SIZE);
    MUST(io_destroy(ctx) == 0);
    return 0;
}
