/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * fairness FILE [ROUNDS [SECONDS]]: the effect of a context that keeps 256 reads in flight on one with a single 4 KiB read at a time on
 * the same file or device: the latency of the single reads alone and beside the other, and beside it with IOCB_ATTR_IOPRIO (best effort, 0).
 * Random places, O_DIRECT. The aim: its p99 at most three times what it is alone.
 */
#include "bench.h"
#include <fcntl.h>
#include <unistd.h>

enum { DEEP = 256, BLOCK = 4096, ROUNDS_MAX = 99, SAMPLES = 1 << 20 };
enum mode { ALONE, BESIDE, PRIORITY, MODES };

static int fd;
static off_t blocks;
static int stop;

static off_t somewhere(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (off_t)((*state >> 24) % (uint64_t)blocks) * BLOCK;
}

static unsigned char *memory(size_t n)
{
    void *at = NULL;

    must("posix_memalign", -posix_memalign(&at, BLOCK, n));
    memset(at, 0, n);
    return at;
}

static void *deep(void *arg)
{
    unsigned char *buffers = memory((size_t)DEEP * BLOCK);
    io_context2_t ctx = setup(0, DEEP, 0);
    struct iocb2 iocbs[DEEP];
    struct io_event2 events[DEEP];
    uint64_t seed = 1;
    uint64_t *count = arg;
    int next = DEEP, in_flight = 0;

    for (int i = 0; i < DEEP; i++)
        events[i].data = (uint64_t)i;
    while (in_flight != 0 || !__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        if (__atomic_load_n(&stop, __ATOMIC_RELAXED))
            next = 0;
        for (int i = 0; i < next; i++) {
            uint64_t which = events[i].data;

            io_prep2_pread(&iocbs[i], fd, buffers + which * BLOCK, BLOCK, somewhere(&seed));
            iocbs[i].data = which;
        }
        if (next != 0)
            must("io_submit2", io_submit2(ctx, iocbs, (size_t)next * sizeof(iocbs[0])));
        in_flight += next;
        ssize_t got = io_getevents2(ctx, sizeof(events[0]), events, sizeof(events), NULL);
        must("io_getevents2", got);
        next = (int)(got / (ssize_t)sizeof(events[0]));
        for (int i = 0; i < next; i++)
            must("read", events[i].res);
        in_flight -= next;
        *count += (uint64_t)next;
    }
    must("io_destroy2", io_destroy2(ctx));
    free(buffers);
    return NULL;
}

/* Latencies in microseconds. */
static size_t single(enum mode mode, double seconds, double *latencies)
{
    struct {
        struct iocb2 iocb;
        unsigned char attributes[64];
    } room;
    struct {
        struct io_event2 event;
        unsigned char returns[64];
    } done;
    struct iocb_ioprio ioprio = { .ioprio = 2 << 13 };
    unsigned char *buffer = memory(BLOCK);
    io_context2_t ctx = setup(0, 1, 0);
    uint64_t seed = 2;
    size_t n = 0;

    for (double now = now_ns(), end = now + seconds * 1e9; now < end && n < SAMPLES;) {
        io_prep2_pread(&room.iocb, fd, buffer, BLOCK, somewhere(&seed));
        if (mode == PRIORITY)
            iocb2_add_attr(&room.iocb, IOCB_ATTR_IOPRIO, 0, 0, &ioprio, sizeof(ioprio));
        must("io_submit2", io_submit2(ctx, &room.iocb, room.iocb.bytes));
        must("io_getevents2", io_getevents2(ctx, sizeof(done.event), &done.event, sizeof(done), NULL));
        must("read", done.event.res);
        double then = now_ns();
        latencies[n++] = (then - now) / 1e3;
        now = then;
    }
    must("io_destroy2", io_destroy2(ctx));
    free(buffer);
    return n;
}

int main(int argc, char **argv)
{
    static const char *names[MODES] = { "alone", "beside 256", "beside 256, with a priority" };
    static double latencies[SAMPLES];
    static double p50[MODES][ROUNDS_MAX], p99[MODES][ROUNDS_MAX], ratio[MODES][ROUNDS_MAX], others[MODES][ROUNDS_MAX];
    const int rounds = argc > 2 ? atoi(argv[2]) : 5;
    const double seconds = argc > 3 ? atof(argv[3]) : 1;

    if (argc < 2 || rounds < 1 || rounds > ROUNDS_MAX || seconds <= 0) {
        fprintf(stderr, "usage: fairness FILE [ROUNDS [SECONDS]]\n");
        return 2;
    }
    fd = checked(argv[1], open(argv[1], O_RDONLY | O_DIRECT | O_CLOEXEC));
    blocks = lseek(fd, 0, SEEK_END) / BLOCK;
    must("size", blocks - 1);
    for (int round = 0; round < rounds; round++) {
        for (enum mode mode = ALONE; mode < MODES; mode++) {
            uint64_t count = 0;
            pthread_t thread;

            stop = 0;
            if (mode != ALONE)
                thread = start(deep, &count);
            nanosleep(&(struct timespec){ 0, 100000000 }, NULL);
            size_t n = single(mode, seconds, latencies);
            if (mode != ALONE) {
                __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
                pthread_join(thread, NULL);
            }
            p99[mode][round] = quantile(latencies, n, 0.99);
            p50[mode][round] = quantile(latencies, n, 0.5);
            ratio[mode][round] = p99[mode][round] / p99[ALONE][round];
            others[mode][round] = (double)count / (seconds + 0.1);
        }
    }
    printf("%-28s %9s %9s %12s %16s\n", "one read at a time", "p50", "p99", "p99, ratio", "the other's IOPS");
    for (enum mode mode = ALONE; mode < MODES; mode++) {
        printf("%-28s %6.1f us %6.1f us %12.2f %16.0f\n", names[mode], median(p50[mode], (size_t)rounds), median(p99[mode], (size_t)rounds),
               median(ratio[mode], (size_t)rounds), median(others[mode], (size_t)rounds));
    }
    return 0;
}
