/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * ordered DIRECTORY [DEVICE]: the requests of one context for one file have the effect of the order of submission. An fsync
 * covers every write before it. Reads and writes through the page cache that overlap, and appends, do not overtake each other,
 * within one io_submit and across several; by one descriptor of the file, and by two.
 */
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "must.h"
#include "submit.h"

enum { PAGE = 4096, MOST = 64, BIG = 256 * PAGE };

static const char *dir;
static io_context_t ctx;
static struct iocb cbs[MOST], *list[MOST];
static struct io_event events[MOST];
static int used;
static char path[4096];
static bool is_real;

static int opened(int flags)
{
    int fd = open(path, O_RDWR | flags, 0600);

    MUST(fd >= 0);
    return fd;
}

static int new_file(int flags)
{
    snprintf(path, sizeof(path), "%s/ordered", dir);
    unlink(path);
    return opened(O_CREAT | flags);
}

static struct iocb *next(void)
{
    MUST(used < MOST);
    list[used] = &cbs[used];
    return &cbs[used++];
}

static void to_write(int fd, const void *from, size_t bytes, long long at)
{
    io_prep_pwrite(next(), fd, (void *)(uintptr_t)from, bytes, at);
}

static void to_read(int fd, void *to, size_t bytes, long long at)
{
    io_prep_pread(next(), fd, to, bytes, at);
}

static void to_sync(int fd, bool data)
{
    if (data)
        io_prep_fdsync(next(), fd);
    else
        io_prep_fsync(next(), fd);
}

/* Submits what was prepared, all at once or one by one, and takes the events; each has moved all of its bytes, except those that are `odd`. */
static void go(bool one_by_one, const struct iocb *odd)
{
    int got = 0;

    for (int i = 0; one_by_one && i < used; i++)
        submit_all(ctx, 1, &list[i]);
    if (!one_by_one)
        submit_all(ctx, used, list);
    while (got < used) {
        int more = io_getevents(ctx, 1, used - got, events + got, NULL);

        MUST(more > 0);
        got += more;
    }
    for (int i = 0; i < used; i++) {
        const struct iocb *cb = events[i].obj;
        bool syncs = cb->aio_lio_opcode == IO_CMD_FSYNC || cb->aio_lio_opcode == IO_CMD_FDSYNC;

        if (cb != odd)
            MUST((long)events[i].res == (syncs ? 0 : (long)cb->u.c.nbytes));
    }
    used = 0;
}

/* Pages of the file that are not on the device; -1: the kernel cannot say (before Linux 6.5). */
static long dirty_pages(int fd)
{
    struct {
        uint64_t offset, bytes;
    } range = { 0, 0 };
    struct {
        uint64_t cached, dirty, writeback, evicted, recently_evicted;
    } pages;

    if (syscall(451, fd, &range, &pages, 0) != 0)
        return -1;
    return (long)(pages.dirty + pages.writeback);
}

#define FAIL(...) (fprintf(stderr, __VA_ARGS__), fputc('\n', stderr), _exit(1))

/* ---- fsync ---- */

static char buffer[BIG] __attribute__((aligned(PAGE)));

static void is_durable(int fd, const char *what, int round)
{
    long dirty = dirty_pages(fd);

    if (dirty > 0)
        FAIL("%s, round %d: %ld pages are still dirty", what, round, dirty);
}

static void synced(const char *what, int fd, int by, int round, size_t bytes)
{
    int each = (int)(bytes / PAGE);

    for (int i = 0; i < 16; i++)
        to_write(fd, buffer, bytes, (long long)(i * 7 % 16 * each) * PAGE);
    to_sync(by, round % 2 == 0);
    go(round % 4 >= 2, NULL);
    is_durable(by, what, round);
}

static void syncs(const char *device)
{
    int appended = new_file(O_APPEND), other = opened(0);

    memset(buffer, 'd', sizeof(buffer));
    for (int round = 0; round < 50; round++)
        synced("appends", appended, appended, round, PAGE);
    for (int round = 0; round < 50; round++)
        synced("appends, synced by another descriptor", appended, other, round, PAGE);
    for (int round = 0; round < 50; round++)
        synced("writes", other, other, round, 4 * PAGE);
    for (int round = 0; round < 50; round++)
        synced("writes, synced by another descriptor", other, appended, round, 4 * PAGE);
    close(appended);
    if (device != NULL) {
        int block = open(device, O_RDWR), again = open(device, O_RDWR);

        MUST(block >= 0 && again >= 0);
        for (int round = 0; round < 30; round++)
            synced("writes to a device", block, again, round, 4 * PAGE);
        close(block);
        close(again);
    }
    /* Past the page cache: the kernel does not wait for these itself. */
    int direct = opened(O_DIRECT);
    for (int round = 0; round < 50 && !is_real; round++) {
        struct iocb *sync;

        for (int i = 0; i < 16; i++)
            to_write(direct, buffer, 4 * PAGE, (long long)(i * 4) * PAGE);
        to_sync(other, true);
        sync = list[used - 1];
        to_write(direct, buffer, PAGE, 0);
        go(round % 2 != 0, NULL);
        for (int i = 0, before = 0; i < 18; i++) {
            before += events[i].obj != sync && events[i].obj != &cbs[17];
            if (events[i].obj == sync && before != 16)
                FAIL("a sync was over after %d of 16 direct writes before it", before);
        }
    }
    close(direct);
    close(other);
}

/* ---- What overlaps ---- */

static bool is_all(const char *from, size_t bytes, char what)
{
    return from[0] == what && memcmp(from, from + 1, bytes - 1) == 0;
}

/* Reads see what was written before them and nothing else, and the last write stays. */
static void overlapping(int write_by, int read_by, size_t bytes, size_t shift)
{
    static char from[MOST / 2][BIG / 8], to[MOST / 2][BIG / 8], last[BIG / 8];
    enum { PAIRS = 12 };

    MUST(pwrite(write_by, buffer, 2 * bytes, 0) == (ssize_t)(2 * bytes));
    for (int round = 0; round < 60; round++) {
        for (int i = 0; i < PAIRS; i++) {
            memset(from[i], 'A' + (round + i) % 50, bytes);
            to_write(write_by, from[i], bytes, (long long)(i % 2 * shift));
            to_read(read_by, to[i], bytes - shift, (long long)shift);
        }
        go(round % 2 != 0, NULL);
        for (int i = 0; i < PAIRS; i++)
            if (!is_all(to[i], bytes - shift, from[i][0]))
                FAIL("%zu bytes, round %d: read %d is not what was written before it: %c %c for %c", bytes, round, i, to[i][0],
                     to[i][bytes - shift - 1], from[i][0]);
        MUST(pread(read_by, last, bytes, (off_t)shift) == (ssize_t)bytes);
        if (!is_all(last, bytes, from[PAIRS - 1][0]))
            FAIL("%zu bytes, round %d: the last write did not stay: %c for %c", bytes, round, last[0], from[PAIRS - 1][0]);
    }
}

/* Writes alone: by and by shorter, so that each leaves its mark. */
static void onion(int fd)
{
    static char from[32][BIG / 8], seen[BIG / 8];

    for (int round = 0; round < 60; round++) {
        for (int i = 0; i < 32; i++) {
            memset(from[i], 'a' + (i + round) % 26, sizeof(from[i]));
            to_write(fd, from[i], sizeof(from[i]) - (size_t)i * 512, 0);
        }
        go(round % 2 != 0, NULL);
        MUST(pread(fd, seen, sizeof(seen), 0) == (ssize_t)sizeof(seen));
        for (size_t at = 0; at < sizeof(seen); at += 512) {
            size_t from_end = (sizeof(seen) - at) / 512 - 1;
            int write = from_end > 31 ? 31 : (int)from_end;

            if (seen[at] != from[write][0])
                FAIL("round %d: at %zu there is not what was written last", round, at);
        }
    }
}

/* A read at the file's end shows how far the writes before it have come, and nothing of those after it. */
static void at_the_end(void)
{
    static char to[4][PAGE], from[BIG / 4];

    for (int round = 0; round < 200; round++) {
        int fd = new_file(round % 2 != 0 ? O_APPEND : 0);
        struct iocb *odd;

        to_read(fd, to[0], PAGE, 0);
        odd = list[used - 1];
        to_write(fd, from, sizeof(from), round % 2 != 0 ? 0 : 16 * PAGE);
        to_read(fd, to[1], PAGE, 2 * PAGE);
        go(round % 4 >= 2, odd);
        for (int i = 0; i < 3; i++)
            if (events[i].obj == odd && (long)events[i].res != 0)
                FAIL("round %d: a read of an empty file has %ld bytes of a later write's", round, (long)events[i].res);
        close(fd);
    }
}

static void past_the_cache(int direct, int buffered)
{
    static char from[8][8 * PAGE], to[8][8 * PAGE] __attribute__((aligned(PAGE)));

    for (int round = 0; round < 60; round++) {
        for (int i = 0; i < 8; i++) {
            long long at = (long long)i * (long long)sizeof(from[0]);

            memset(from[i], 'A' + (round + i) % 50, sizeof(from[i]));
            to_write(buffered, from[i], sizeof(from[i]), at);
            to_read(direct, to[i], sizeof(to[i]), at);
        }
        go(round % 2 != 0, NULL);
        for (int i = 0; i < 8; i++)
            if (!is_all(to[i], sizeof(to[i]), from[i][0]))
                FAIL("round %d: direct read %d is not what was written before it", round, i);
    }
}

/* Of one file by two descriptors, each with its order. */
static void appends(int flags)
{
    static char from[48][PAGE] __attribute__((aligned(PAGE))), seen[PAGE];

    for (int round = 0; round < 40; round++) {
        int fds[2] = { new_file(O_APPEND | flags), opened(O_APPEND | flags) };

        for (int i = 0; i < 48; i++) {
            memset(from[i], i, PAGE);
            to_write(fds[i % 2], from[i], PAGE, 0);
        }
        go(round % 2 != 0, NULL);
        int fd = opened(0);
        for (int i = 0; i < 48; i++) {
            MUST(pread(fd, seen, PAGE, (off_t)i * PAGE) == PAGE);
            if (!is_all(seen, PAGE, (char)i))
                FAIL("appends, round %d: block %d is %d", round, i, seen[0]);
        }
        close(fd);
        close(fds[0]);
        close(fds[1]);
    }
}

int main(int argc, char **argv)
{
    const char *device = argc > 2 ? argv[2] : NULL;

    MUST(argc >= 2);
    dir = argv[1];
    is_real = is_set("REAL");
    MUST(io_setup(MOST, &ctx) == 0);
    syncs(device);
    int fd = new_file(0), other = opened(0), direct = opened(O_DIRECT);
    overlapping(fd, fd, PAGE, 0);
    overlapping(fd, other, 16 * PAGE, 512);
    onion(fd);
    past_the_cache(direct, fd);
    if (device != NULL) {
        int block = open(device, O_RDWR), again = open(device, O_RDWR);

        overlapping(block, again, 16 * PAGE, PAGE);
        onion(block);
    }
    at_the_end();
    appends(0);
    appends(O_DIRECT);
    MUST(io_destroy(ctx) == 0);
    return 0;
}
