/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * append DIRECTORY [DEVICE]: appends that follow each other past the page cache, and a limit of the file's size within one of
 * them. That one has written the bytes up to the limit and reports them, those behind it return -EFBIG, and the file contains
 * the bytes that the events report. And a file that gets O_APPEND or O_DIRECT, or loses it, right after io_submit(): that counts for later
 * requests only.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "must.h"
#include "submit.h"

enum { BLOCK = 4096, PART = 512, DEPTH = 64, BLOCKS = 320, LIMIT = 301, ROUNDS = 10, CHANGES = 500 };

static char *memory;
static io_context_t ctx;

/* How many bytes the events speak of, and how many of them are short. */
static long write_all(int fd, int *shorts)
{
    static struct iocb cbs[DEPTH], *unused[DEPTH];
    int in_flight = 0, next = 0, left = DEPTH;
    long bytes = 0;

    *shorts = 0;
    for (int i = 0; i < DEPTH; i++)
        unused[i] = &cbs[i];
    while (next < BLOCKS || in_flight != 0) {
        struct iocb *list[DEPTH];
        struct io_event events[DEPTH];
        int n = 0;

        for (; left != 0 && next < BLOCKS; n++, next++) {
            list[n] = unused[--left];
            io_prep_pwrite(list[n], fd, memory, BLOCK, (long long)next * BLOCK);
        }
        if (n != 0)
            submit_all(ctx, n, list);
        in_flight += n;
        n = io_getevents(ctx, 1, DEPTH, events, NULL);
        MUST(n > 0);
        in_flight -= n;
        for (int i = 0; i < n; i++) {
            const long res = (long)events[i].res;

            unused[left++] = events[i].obj;
            MUST(res > 0 || res == -EFBIG);
            bytes += res > 0 ? res : 0;
            *shorts += res > 0 && res != BLOCK;
        }
    }
    return bytes;
}

/* Whether the kernel knows writes that do not append although their file has O_APPEND: since 6.9. */
static bool knows_noappend(void)
{
    struct utsname name;
    int major = 0, minor = 0;

    MUST(uname(&name) == 0 && sscanf(name.release, "%d.%d", &major, &minor) == 2);
    return major > 6 || (major == 6 && minor >= 9);
}

/* Submits a write of the second of two blocks, as a vector or not, and changes O_APPEND at once. */
static void change_flags(const char *path, int direct)
{
    const struct iovec vector = { memory, BLOCK };
    const bool may_set = is_set("REAL") || knows_noappend();

    for (int i = 0; i < fewer(CHANGES); i++) {
        const bool appends = i % 2 == 0 || !may_set;
        const int before = appends ? O_APPEND : 0, after = O_APPEND - before;
        int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | direct | before, 0600);
        struct iocb cb, *one = &cb;
        struct io_event event;
        struct stat st;

        MUST(fd >= 0 && ftruncate(fd, 2 * BLOCK) == 0);
        if (i % 4 < 2)
            io_prep_pwrite(&cb, fd, memory, BLOCK, BLOCK);
        else
            io_prep_pwritev(&cb, fd, &vector, 1, BLOCK);
        submit_all(ctx, 1, &one);
        MUST(fcntl(fd, F_SETFL, direct | after) == 0);
        MUST(io_getevents(ctx, 1, 1, &event, NULL) == 1 && event.res == BLOCK);
        MUST(fstat(fd, &st) == 0 && close(fd) == 0);
        if (st.st_size != (appends ? 3 : 2) * BLOCK) {
            fprintf(stderr, "change %d (%s): %ld bytes\n", i, direct != 0 ? "direct" : "buffered", (long)st.st_size);
            _exit(1);
        }
    }
}

/* A write that O_DIRECT does not allow. */
static void become_direct(const char *path)
{
    for (int i = 0; i < fewer(CHANGES); i++) {
        int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
        struct iocb cb, *one = &cb;
        struct io_event event;

        MUST(fd >= 0);
        io_prep_pwrite(&cb, fd, memory + 1, PART - 1, 1);
        submit_all(ctx, 1, &one);
        MUST(fcntl(fd, F_SETFL, O_DIRECT) == 0);
        MUST(io_getevents(ctx, 1, 1, &event, NULL) == 1);
        if (event.res != PART - 1) {
            fprintf(stderr, "a file that becomes direct: %ld\n", (long)event.res);
            _exit(1);
        }
        MUST(close(fd) == 0);
    }
}

int main(int argc, char **argv)
{
    const struct rlimit limit = { (rlim_t)LIMIT * BLOCK + PART, RLIM_INFINITY };
    const struct rlimit none = { RLIM_INFINITY, RLIM_INFINITY };
    char path[PATH_MAX];

    MUST(argc >= 2);
    snprintf(path, sizeof(path), "%s/append", argv[1]);
    MUST(posix_memalign((void **)&memory, BLOCK, BLOCK) == 0);
    memset(memory, 0x5a, BLOCK);
    signal(SIGXFSZ, SIG_IGN);
    MUST(io_setup(DEPTH, &ctx) == 0);
    for (int round = 0; round < ROUNDS; round++) {
        int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_APPEND, 0600), shorts;
        struct stat st;

        MUST(fd >= 0);
        MUST(write_all(fd, &shorts) == (long)BLOCKS * BLOCK);
        MUST(ftruncate(fd, LIMIT * BLOCK) == 0);
        MUST(setrlimit(RLIMIT_FSIZE, &limit) == 0);
        if (round == 0 && write(fd, memory, BLOCK) != PART) {
            fprintf(stderr, "SKIPPED: no part of a block can be written\n");
            return 77;
        }
        MUST(ftruncate(fd, 0) == 0);
        long bytes = write_all(fd, &shorts);
        MUST(setrlimit(RLIMIT_FSIZE, &none) == 0);
        MUST(fstat(fd, &st) == 0);
        if (bytes != LIMIT * BLOCK + PART || st.st_size != bytes || shorts != 1) {
            fprintf(stderr, "round %d: %ld bytes by %d short writes, and %ld in the file\n", round, bytes, shorts, (long)st.st_size);
            return 1;
        }
        MUST(close(fd) == 0);
    }
    change_flags(path, 0);
    change_flags(path, O_DIRECT);
    /* libaio2.so alone does not see it. */
    if (is_set("REAL") || dlsym(RTLD_DEFAULT, "aio2_before_flags") != NULL)
        become_direct(path);
    MUST(io_destroy(ctx) == 0);
    MUST(unlink(path) == 0);
    return 0;
}
