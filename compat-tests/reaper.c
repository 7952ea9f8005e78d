/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Reaps from the ring without any call, in the ways of programs that do so: by the header's nr, head and tail, with an
 * event copied before head is stored (fio), in batches (qemu), with compare-and-swap by two threads (Seastar has
 * one), and mixed with io_getevents. Every event must come once, with its own data, and the data must be read.
 */
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include "must.h"
#include "now.h"
#include "submit.h"

struct ring {
    unsigned id, nr, head, tail, magic, compat, incompat, header_length;
    struct io_event events[];
};

enum { DEPTH = 96, BLOCKS = 1024, SIZE = 512, TOTAL = 60000 };

static io_context_t ctx;
static struct ring *ring;
static struct iocb cb[DEPTH];
static char *buf[DEPTH];
static int flight[DEPTH];
static int block_of[DEPTH];
static int fd, efd;
static long done;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* How one event at most is taken. */
static bool take_plain(struct io_event *ev)
{
    unsigned head = ring->head;

    if (head == __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE))
        return false;
    *ev = ring->events[head];
    __atomic_store_n(&ring->head, (head + 1) % ring->nr, __ATOMIC_RELEASE);
    return true;
}

static bool take_cas(struct io_event *ev)
{
    unsigned head = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE);

    do {
        if (head == __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE))
            return false;
        *ev = ring->events[head];
    } while (!__atomic_compare_exchange_n(&ring->head, &head, (head + 1) % ring->nr, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
    return true;
}

static void check(const struct io_event *ev)
{
    long i = (long)ev->data;

    MUST(i >= 0 && i < DEPTH);
    MUST(ev->obj == &cb[i]);
    MUST(ev->res2 == 0);
    MUST((long)ev->res == SIZE);
    MUST(flight[i] == 1);
    for (int k = 0; k < SIZE; k += 8)
        MUST(*(uint64_t *)(buf[i] + k) == (uint64_t)block_of[i] * 1000003 + (unsigned)k);
    flight[i] = 0;
    done++;
}

static long submitted;
static void refill(int batch)
{
    struct iocb *list[DEPTH];
    int n = 0;

    for (int i = 0; i < DEPTH && n < batch && submitted + n < TOTAL; i++)
        if (!flight[i]) {
            flight[i] = 1;
            block_of[i] = (int)((submitted + n) * 7919 % BLOCKS);
            memset(buf[i], 0xff, SIZE);
            io_prep_pread(&cb[i], fd, buf[i], SIZE, (long long)block_of[i] * SIZE);
            cb[i].data = (void *)(long)i;
            if (efd >= 0)
                io_set_eventfd(&cb[i], efd);
            list[n++] = &cb[i];
        }
    submit_all(ctx, n, list);
    submitted += n;
}

static void begin(const char *name)
{
    printf("%s\n", name);
    fflush(stdout);
    done = submitted = 0;
    ctx = NULL;
    MUST(io_setup(DEPTH, &ctx) == 0);
    ring = (struct ring *)ctx;
    MUST(ring->magic == 0xa10a10a1 && ring->header_length == sizeof(struct ring) && ring->incompat == 0);
    MUST(ring->head == 0 && ring->tail == 0 && ring->nr >= DEPTH);
}

static void end(void)
{
    MUST(done == TOTAL);
    MUST(ring->head == ring->tail);
    MUST(io_destroy(ctx) == 0);
}

static volatile bool stop;
static void *second(void *arg)
{
    struct io_event ev;

    (void)arg;
    while (!stop)
        if (take_cas(&ev)) {
            pthread_mutex_lock(&lock);
            check(&ev);
            pthread_mutex_unlock(&lock);
        }
    return NULL;
}

int main(int argc, char **argv)
{
    struct io_event ev, many[DEPTH];
    char path[4096];

    MUST(argc >= 2);
    snprintf(path, sizeof(path), "%s/reaper", argv[1]);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    MUST(fd >= 0);
    for (int b = 0; b < BLOCKS; b++) {
        uint64_t block[SIZE / 8];

        for (int k = 0; k < SIZE; k += 8)
            block[k / 8] = (uint64_t)b * 1000003 + (unsigned)k;
        MUST(write(fd, block, SIZE) == SIZE);
    }
    for (int i = 0; i < DEPTH; i++)
        MUST((buf[i] = aligned_alloc(4096, 4096)) != NULL);
    efd = -1;
    double limit = now() + 100;

    begin("one at a time, by hand");
    while (done < TOTAL) {
        MUST(now() < limit);
        refill(DEPTH);
        while (take_plain(&ev))
            check(&ev);
    }
    end();

    begin("one in flight");
    while (done < 3000) {
        MUST(now() < limit);
        if (submitted == done)
            refill(1);
        if (take_plain(&ev))
            check(&ev);
    }
    done = TOTAL;
    end();

    begin("in batches, head stored once");
    while (done < TOTAL) {
        MUST(now() < limit);
        refill(16);
        unsigned head = ring->head, tail = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
        unsigned n = tail >= head ? tail - head : ring->nr - head;
        for (unsigned i = 0; i < n; i++)
            many[i] = ring->events[head + i];
        __atomic_store_n(&ring->head, (head + n) % ring->nr, __ATOMIC_RELEASE);
        for (unsigned i = 0; i < n; i++)
            check(&many[i]);
    }
    end();

    begin("with an eventfd, which is read first");
    efd = eventfd(0, 0);
    refill(DEPTH);
    while (done < TOTAL) {
        eventfd_t value;
        long before = done;

        MUST(now() < limit);
        MUST(eventfd_read(efd, &value) == 0);
        while (take_plain(&ev))
            check(&ev);
        /* The event is in the ring before the eventfd tells of it. */
        MUST(done - before > 0 || submitted > done);
        refill(DEPTH);
    }
    efd = -1;
    end();

    begin("by hand and by io_getevents in turn");
    for (int turn = 0; done < TOTAL; turn++) {
        MUST(now() < limit);
        refill(DEPTH);
        if (turn % 2) {
            for (int i = 0; i < 5 && take_plain(&ev); i++)
                check(&ev);
        } else {
            int n = io_getevents(ctx, 1, 7, many, NULL);
            MUST(n >= 1 && n <= 7);
            for (int i = 0; i < n; i++)
                check(&many[i]);
        }
    }
    end();

    begin("by two threads with compare-and-swap");
    pthread_t thread;
    MUST(pthread_create(&thread, NULL, second, NULL) == 0);
    for (bool more = true; more;) {
        MUST(now() < limit);
        pthread_mutex_lock(&lock);
        refill(DEPTH);
        more = done < TOTAL;
        pthread_mutex_unlock(&lock);
        if (take_cas(&ev)) {
            pthread_mutex_lock(&lock);
            check(&ev);
            pthread_mutex_unlock(&lock);
        }
    }
    stop = true;
    pthread_join(thread, NULL);
    end();
    unlink(path);
    return 0;
}
