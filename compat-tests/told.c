/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * told DIRECTORY [DEVICE]: an event loop that sleeps on an eventfd and never in io_getevents, as QEMU and nginx do. The sum of
 * the eventfd equals the number of events, short reads are over when io_submit returns, and handling events within the submit
 * that brings them does not need more and more stack. Also a loop that polls for events, and then does not for a while, waits,
 * or gives up.
 */
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include "must.h"

enum { PAGE = 4096, PAGES = 1024, MOST = 128 };

static io_context_t ctx;
static struct iocb cbs[MOST];
static char buffers[MOST][PAGE] __attribute__((aligned(PAGE)));
static unsigned seed = 1;

/* Each page begins with its number. */
static void fill(int fd)
{
    static uint64_t page[PAGE / 8] __attribute__((aligned(PAGE)));

    for (uint64_t at = 0; at < PAGES; at++) {
        page[0] = at;
        MUST(pwrite(fd, page, PAGE, (off_t)at * PAGE) == PAGE);
    }
    MUST(fsync(fd) == 0);
}

static struct iocb *prepare(int i, int fd, int efd)
{
    seed = seed * 1103515245 + 12345;
    io_prep_pread(&cbs[i], fd, buffers[i], PAGE, (long long)((seed >> 8) % PAGES) * PAGE);
    io_set_eventfd(&cbs[i], efd);
    return &cbs[i];
}

static void check(const struct io_event *ev)
{
    uint64_t number;

    MUST((long)ev->res == PAGE);
    memcpy(&number, buffers[ev->obj - cbs], sizeof(number));
    MUST(number == (uint64_t)ev->obj->u.c.offset / PAGE);
}

/* How many events there are now. */
static int reap(void)
{
    struct io_event ev[MOST];
    struct timespec none = { 0, 0 };
    int got = io_getevents(ctx, 0, MOST, ev, &none);

    MUST(got >= 0);
    for (int i = 0; i < got; i++)
        check(&ev[i]);
    return got;
}

/* Waits to be told, by one of two; returns of how many. */
static uint64_t wait_for(int one, int other)
{
    struct pollfd p[2] = { { .fd = one, .events = POLLIN }, { .fd = other, .events = POLLIN } };
    uint64_t told = 0;

    MUST(poll(p, 2, 60000) > 0);
    for (int i = 0; i < 2; i++) {
        uint64_t count;

        if (p[i].revents != 0) {
            MUST(read(p[i].fd, &count, sizeof(count)) == sizeof(count));
            told += count;
        }
    }
    return told;
}

static void batches(int fd, int flags, int batch, bool drop)
{
    int efd[2] = { eventfd(0, flags), eventfd(0, flags) };
    uint64_t told = 0, reaped = 0;

    MUST(efd[0] >= 0 && efd[1] >= 0);
    for (int round = 0; round < 8000 / batch + 100; round++) {
        struct iocb *list[MOST];
        int left = batch;

        for (int i = 0; i < batch; i++)
            list[i] = prepare(i, fd, efd[i % (1 + round % 2)]);
        if (drop && round % 50 == 0)
            MUST(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
        MUST(io_submit(ctx, batch, list) == batch);
        while (left > 0) {
            int got;

            told += wait_for(efd[0], efd[1]);
            got = reap();
            left -= got;
            reaped += (uint64_t)got;
        }
        /* An event may be there a little before it is told. */
        while (told < reaped)
            told += wait_for(efd[0], efd[1]);
        MUST(told == reaped);
    }
    MUST(reap() == 0);
    close(efd[0]);
    close(efd[1]);
}

static void at_once(int fd)
{
    struct iovec one_page = { buffers[0], PAGE };
    int efd = eventfd(0, EFD_NONBLOCK), early = 0;

    for (int i = 0; i < 4000; i++) {
        struct iocb *one = prepare(0, fd, efd);
        int got;

        MUST(io_submit(ctx, 1, &one) == 1);
        got = reap();
        early += i >= 2000 && got == 1;
        wait_for(efd, -1);
        MUST(got == 1 || reap() == 1);
    }
    fprintf(stderr, "%d of 2000 are over when io_submit returns\n", early);
    /* Not where nobody can say whether a read would wait. */
    MUST(early > 1000 || (preadv2(fd, &one_page, 1, 0, RWF_NOWAIT) == -1 && errno == EOPNOTSUPP));
    close(efd);
}

static int deepest, left;

static void see_to(int fd, int efd, int depth)
{
    /* What a level takes. */
    volatile char frame[PAGE] = { 0 };
    struct io_event ev[MOST];
    struct iocb *list[MOST];
    struct timespec none = { 0, 0 };
    int got;

    deepest = depth > deepest ? depth : deepest + frame[depth % PAGE];
    /* What a stack of 8 MiB has room for several times. */
    MUST(depth < 200);
    while (left > 0 && (got = io_getevents(ctx, 0, MOST, ev, &none)) != 0) {
        MUST(got > 0);
        for (int i = 0; i < got; i++) {
            check(&ev[i]);
            list[i] = prepare((int)(ev[i].obj - cbs), fd, efd);
        }
        left -= got;
        MUST(io_submit(ctx, got, list) == got);
        see_to(fd, efd, depth + 1);
    }
}

static void nested(int fd, int outstanding)
{
    int efd = eventfd(0, EFD_NONBLOCK), over = 0;

    if (submit_waits()) {
        fprintf(stderr, "nested: the events within io_submit have no bound\n");
        return;
    }
    left = fewer(40000);
    deepest = 0;
    for (int i = 0; i < outstanding; i++) {
        struct iocb *one = prepare(i, fd, efd);

        MUST(io_submit(ctx, 1, &one) == 1);
    }
    while (left > 0) {
        wait_for(efd, -1);
        see_to(fd, efd, 0);
    }
    while ((over += reap()) < outstanding)
        wait_for(efd, -1);
    fprintf(stderr, "%d at a time: nested %d deep\n", outstanding, deepest);
    close(efd);
}

/* ---- Looking ---- */

/* The ring at the context's address, as far as it is of interest here. */
struct ring {
    unsigned id, nr, head, tail;
};

static int in_ring(void)
{
    const volatile struct ring *ring = (const volatile struct ring *)ctx;
    unsigned head = ring->head, tail = ring->tail;

    return (int)((tail + ring->nr - head) % ring->nr);
}

static void looks(int fd, int outstanding, long ns)
{
    struct iocb *list[MOST];
    struct io_event ev[MOST];
    int free_list[MOST], free = outstanding;

    ctx = NULL;
    MUST(io_setup(MOST, &ctx) == 0);
    for (int i = 0; i < outstanding; i++)
        free_list[i] = i;
    for (int round = 0, rounds = fewer(4000); round < rounds; round++) {
        int n = free, got = 0;

        for (int i = 0; i < n; i++) {
            list[i] = prepare(free_list[i], fd, 0);
            list[i]->u.c.flags = 0;
        }
        MUST(io_submit(ctx, n, list) == n);
        free = 0;
        if (round % 500 == 499) {
            /* Nobody looks: they come all the same. */
            for (int ms = 0; in_ring() < outstanding; ms++) {
                MUST(ms < 60000);
                usleep(1000);
            }
        } else if (round % 500 == 250) {
            MUST(io_getevents(ctx, outstanding, outstanding, ev, NULL) == outstanding);
            got = outstanding;
        }
        for (time_t began = time(NULL); got == 0; got = io_getevents(ctx, 1, MOST, ev, &(struct timespec){ 0, ns }))
            MUST(time(NULL) - began < 60);
        MUST(got > 0);
        for (int i = 0; i < got; i++) {
            check(&ev[i]);
            free_list[free++] = (int)(ev[i].obj - cbs);
        }
    }
    /* With the rest on its way. */
    MUST(io_destroy(ctx) == 0);
}

static void run(int fd, bool drop)
{
    fill(fd);
    ctx = NULL;
    MUST(io_setup(MOST, &ctx) == 0);
    at_once(fd);
    for (int outstanding = 1; outstanding <= MOST; outstanding *= 4)
        nested(fd, outstanding);
    for (int batch = 1; batch <= MOST; batch *= 4) {
        batches(fd, EFD_NONBLOCK, batch, false);
        batches(fd, 0, batch, drop);
    }
    MUST(io_destroy(ctx) == 0);
}

int main(int argc, char **argv)
{
    char path[4096];
    int fd;

    MUST(argc >= 2);
    snprintf(path, sizeof(path), "%s/told", argv[1]);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    MUST(fd >= 0);
    run(fd, true);
    close(fd);
    fd = open(path, O_RDWR | O_DIRECT);
    MUST(fd >= 0);
    for (int outstanding = 1; outstanding <= MOST; outstanding *= 4) {
        looks(fd, outstanding, 0);
        /* Or waits, but not for ever. */
        looks(fd, outstanding, 100000000);
    }
    close(fd);
    if (argc > 2) {
        fd = open(argv[2], O_RDWR | O_DIRECT);
        MUST(fd >= 0);
        run(fd, false);
    }
    return 0;
}
