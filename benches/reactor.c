/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * How a reactor writes (Seastar, Redpanda): one thread, an eventfd in an epoll, and the thread must not be held. Each batch has 4 KiB
 * O_DIRECT appends to a log, whose space is allocated ahead, and overwrites of a file in which written and unwritten blocks alternate. When the
 * writes of a batch have completed, one call submits an fdatasync of the log and the next batch.
 *
 *     reactor DIRECTORY REQUESTS
 *
 * Prints: writes a second; processor time of a write (us); p50, p99.9 and longest call that submits (us); the same of the calls that
 * take events, and of SPIN_US in which the thread calls nothing, after each submit: any excess there is the time for which other threads, the
 * kernel's among them, have its processor. With -DLIBAIO it is a program written for libaio.
 */
#include "bench.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>
#ifdef LIBAIO
#include <libaio.h>
#endif

enum { BLOCK = 4096, BATCH = 16, SYNC = BATCH, AHEAD = 32 << 20, SPIN_US = 10 };

static int log_fd, data_fd, event_fd;
static void *buffers[BATCH];

/* The library that is measured: queue() adds a request to the next call of submit(). */

#ifdef LIBAIO

static io_context_t ctx;
static struct iocb iocbs[BATCH + 1];
static struct iocb *queued[BATCH + 1];
static int queued_n;

static void begin(void)
{
    must("io_setup", io_setup(2 * BATCH, &ctx));
}

static void queue(int fd, long i, long long offset)
{
    struct iocb *one = &iocbs[i];

    if (i == SYNC)
        io_prep_fdsync(one, fd);
    else
        io_prep_pwrite(one, fd, buffers[i], BLOCK, offset);
    io_set_eventfd(one, event_fd);
    one->data = (void *)i;
    queued[queued_n++] = one;
}

static void submit(void)
{
    int ret = io_submit(ctx, queued_n, queued);

    must("io_submit", ret == queued_n ? 0 : ret < 0 ? ret : -EAGAIN);
    queued_n = 0;
}

/* Takes events, without waiting. Calls `done` for each. */
static int take(void (*done)(long i, long long res))
{
    struct io_event events[BATCH + 1];
    struct timespec none = { 0, 0 };
    int got = io_getevents(ctx, 0, BATCH + 1, events, &none);

    must("io_getevents", got);
    for (int i = 0; i < got; i++)
        done((long)events[i].data, (long)events[i].res);
    return got;
}

#else

static io_context2_t ctx;
static struct iocb2 queued[BATCH + 1];
static int queued_n;

static void begin(void)
{
    struct io_setup2_params params = { .bytes = sizeof(params), .eventfd = event_fd };

    must("io_setup2", io_setup2(IO_SETUP2_VERSION, &params, &ctx));
}

static void queue(int fd, long i, long long offset)
{
    struct iocb2 *one = &queued[queued_n++];

    if (i == SYNC)
        io_prep2_fdatasync(one, fd);
    else
        io_prep2_pwrite(one, fd, buffers[i], BLOCK, offset);
    one->data = (uint64_t)i;
}

static void submit(void)
{
    ssize_t bytes = (ssize_t)sizeof(queued[0]) * queued_n, ret = io_submit2(ctx, queued, (size_t)bytes);

    must("io_submit2", ret == bytes ? 0 : ret < 0 ? ret : -EAGAIN);
    queued_n = 0;
}

static int take(void (*done)(long i, long long res))
{
    struct io_event2 events[BATCH + 1];
    ssize_t got = io_getevents2(ctx, 0, events, sizeof(events), NULL);

    must("io_getevents2", got);
    for (ssize_t i = 0; i < got / (ssize_t)sizeof(events[0]); i++)
        done((long)events[i].data, events[i].res);
    return (int)(got / (ssize_t)sizeof(events[0]));
}

#endif

/* Times of calls, in microseconds. */
struct times {
    double *values;
    size_t n, most;
};

static struct times in_submit, in_take, in_none;

static void note(struct times *times, double began)
{
    if (times->n < times->most)
        times->values[times->n++] = (now_ns() - began) / 1e3;
}

static void spin(void)
{
    double began = now_ns();

    while (now_ns() - began < SPIN_US * 1e3)
        ;
    note(&in_none, began);
}

static void show(struct times *times)
{
    double p999 = quantile(times->values, times->n, 0.999);

    printf(" %.1f %.1f %.0f", median(times->values, times->n), p999, times->values[times->n - 1]);
}

static long written, in_flight, syncs;
static uint64_t seed = 88172645463325252u;

static uint64_t next_random(void)
{
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return seed;
}

static void done(long i, long long res)
{
    must("write or fdatasync", res < 0 ? res : i != SYNC && res != BLOCK ? -EIO : 0);
    if (i == SYNC) {
        syncs--;
    } else {
        in_flight--;
        written++;
    }
}

static int make(const char *directory, const char *name)
{
    char path[4096];

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    int fd = checked(path, open(path, O_RDWR | O_CREAT | O_EXCL | O_DIRECT, 0600));
    unlink(path);
    return fd;
}

/* So long a file, written and unwritten blocks in turn. */
static void prepare(int fd, long blocks)
{
    checked("fallocate", fallocate(fd, 0, 0, blocks * BLOCK));
    for (long i = 0; i < blocks; i += 2)
        checked("pwrite", (int)pwrite(fd, buffers[0], BLOCK, i * BLOCK));
    checked("fsync", fsync(fd));
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    const long requests = atol(argv[2]), blocks = requests / 2;
    const int epoll = checked("epoll_create1", epoll_create1(EPOLL_CLOEXEC));
    struct epoll_event event = { .events = EPOLLIN };
    long long end = 0, allocated = 0;
    struct rusage before, after;
    double began, calls;

    for (int i = 0; i < BATCH; i++) {
        must("posix_memalign", -posix_memalign(&buffers[i], BLOCK, BLOCK));
        /* As pages of a database: half of it can be compressed. (zram does not store what is one byte all over.) */
        memset(buffers[i], 'a' + i % 26, BLOCK);
        for (size_t at = 0; at < BLOCK / 2; at += sizeof(seed)) {
            next_random();
            memcpy((char *)buffers[i] + at, &seed, sizeof(seed));
        }
    }
    for (size_t i = 0; i < 3; i++) {
        struct times *times = (struct times *[]){ &in_submit, &in_take, &in_none }[i];

        times->most = (size_t)requests * 2;
        times->values = calloc(times->most, sizeof(double));
        must("calloc", times->values == NULL ? -ENOMEM : 0);
    }
    event_fd = checked("eventfd", eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    checked("epoll_ctl", epoll_ctl(epoll, EPOLL_CTL_ADD, event_fd, &event));
    log_fd = make(argv[1], "log");
    data_fd = make(argv[1], "data");
    prepare(data_fd, blocks);
    begin();

    checked("getrusage", getrusage(RUSAGE_SELF, &before));
    began = now_ns();
    while (written < requests || syncs != 0) {
        if (in_flight == 0 && syncs == 0 && written < requests) {
            if (end + BATCH * BLOCK > allocated) {
                checked("fallocate", fallocate(log_fd, FALLOC_FL_KEEP_SIZE, allocated, AHEAD));
                allocated += AHEAD;
            }
            if (written != 0) {
                queue(log_fd, SYNC, 0);
                syncs++;
            }
            for (long i = 0; i < BATCH; i++) {
                if (i % 2 == 0) {
                    queue(log_fd, i, end);
                    end += BLOCK;
                } else {
                    queue(data_fd, i, (long long)(next_random() % (uint64_t)blocks) * BLOCK);
                }
                in_flight++;
            }
            calls = now_ns();
            submit();
            note(&in_submit, calls);
            spin();
        }
        checked("epoll_wait", epoll_wait(epoll, &event, 1, -1));
        eventfd_t count;
        if (eventfd_read(event_fd, &count) != 0)
            continue;
        int got;
        do {
            calls = now_ns();
            got = take(done);
            note(&in_take, calls);
        } while (got == BATCH + 1);
    }
    double took = now_ns() - began;
    checked("getrusage", getrusage(RUSAGE_SELF, &after));
    double cpu = (double)(after.ru_utime.tv_sec - before.ru_utime.tv_sec + after.ru_stime.tv_sec - before.ru_stime.tv_sec) * 1e6 +
                 (double)(after.ru_utime.tv_usec - before.ru_utime.tv_usec + after.ru_stime.tv_usec - before.ru_stime.tv_usec);
    printf("%.0f %.1f", (double)written * 1e9 / took, cpu / (double)written);
    show(&in_submit);
    show(&in_take);
    show(&in_none);
    printf("\n");
    return 0;
}
