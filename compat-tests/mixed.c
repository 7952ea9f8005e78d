/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * mixed DIRECTORY: a program that makes some calls by libaio's functions and others by syscall(), on the same context, as MariaDB does
 * (io_setup of libaio's, and io_getevents by syscall()). Each call is made each way. MIXED=calls: nothing else.
 */
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "must.h"

enum { PAGE = 4096 };

static char buffer[PAGE];
static int fd;

/* By a system call, as libaio's functions answer. */
static int raw(long ret)
{
    return ret == -1 ? -errno : (int)ret;
}

static void one(int how)
{
    io_context_t ctx = NULL;
    struct iocb iocb, *list[1] = { &iocb };
    struct io_event ev;
    struct timespec limit = { 10, 0 };
    struct {
        const sigset_t *set;
        size_t bytes;
    } mask = { NULL, 0 };
    int ret;

    ret = how & 1 ? raw(syscall(SYS_io_setup, 8, &ctx)) : io_setup(8, &ctx);
    MUST(ret == 0);
    for (int i = 0; i < 3; i++) {
        io_prep_pwrite(&iocb, fd, buffer, PAGE, 0);
        ret = how & 2 ? raw(syscall(SYS_io_submit, ctx, 1, list)) : io_submit(ctx, 1, list);
        MUST(ret == 1);
        if (i == 0)
            ret = how & 4 ? raw(syscall(SYS_io_getevents, ctx, 1, 1, &ev, &limit)) : io_getevents(ctx, 1, 1, &ev, &limit);
        else
            ret = how & 4 ? raw(syscall(SYS_io_pgetevents, ctx, 1, 1, &ev, &limit, i == 1 ? &mask : NULL))
                          : io_pgetevents(ctx, 1, 1, &ev, &limit, NULL);
        if (ret != 1)
            fprintf(stderr, "way %d: io_getevents says %d\n", how, ret);
        MUST(ret == 1 && ev.obj == &iocb && (long)ev.res == PAGE);
    }
    ret = how & 8 ? raw(syscall(SYS_io_cancel, ctx, &iocb, &ev)) : io_cancel(ctx, &iocb, &ev);
    MUST(ret == -EINVAL);
    ret = how & 16 ? raw(syscall(SYS_io_destroy, ctx)) : io_destroy(ctx);
    MUST(ret == 0);
}

/* The system call's own mask is two words, and they may be in two pages. */
static void mask_across_pages(void)
{
    char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct io_event ev;
    io_context_t ctx = NULL;

    MUST(pages != MAP_FAILED && mprotect(pages + PAGE, PAGE, PROT_NONE) == 0);
    MUST(io_setup(1, &ctx) == 0);
    for (int there = 0; there <= 16; there += 4)
        MUST(raw(syscall(SYS_io_pgetevents, ctx, 0, 1, &ev, &(struct timespec){ 0, 0 }, pages + PAGE - there)) == (there == 16 ? 0 : -EFAULT));
    MUST(io_destroy(ctx) == 0);
}

/* Accepted requests are carried out, however the process ends: see diff.c, which takes this way through execl(). */
static void ends(const char *directory, int how)
{
    char path[4096], content[8] = "";
    int file, ends[2], status;
    pid_t child;

    snprintf(path, sizeof(path), "%s/mixed-end", directory);
    file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    MUST(file >= 0 && pipe(ends) == 0);
    child = fork();
    MUST(child >= 0);
    if (child == 0) {
        struct iocb iocbs[2], *list[2] = { &iocbs[0], &iocbs[1] };
        io_context_t ctx = NULL;

        MUST(io_setup(2, &ctx) == 0);
        io_prep_pwrite(&iocbs[0], ends[1], "x", 1, 0);
        io_prep_pwrite(&iocbs[1], file, "written", 7, 0);
        MUST(io_submit(ctx, 2, list) == 2);
        if (how == 0)
            _exit(0);
        if (how == 1)
            execl("/bin/true", "true", (char *)NULL);
        if (how == 2)
            syscall(SYS_exit_group, 0);
        _exit(1);
    }
    MUST(waitpid(child, &status, 0) == child && status == 0);
    MUST(pread(file, content, 7, 0) == 7 && strcmp(content, "written") == 0);
    close(file);
    close(ends[0]);
    close(ends[1]);
}

int main(int argc, char **argv)
{
    char path[4096];

    MUST(argc >= 2);
    snprintf(path, sizeof(path), "%s/mixed", argv[1]);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    MUST(fd >= 0);
    for (int how = 0; how < 32; how++)
        one(how);
    mask_across_pages();
    for (int round = 0; round < 20 && getenv("MIXED") == NULL; round++)
        for (int how = 0; how < 3; how++)
            ends(argv[1], how);
    return 0;
}
