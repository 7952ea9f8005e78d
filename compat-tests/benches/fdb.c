/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * How FoundationDB writes: 4 KiB, one iocb a call, 32 in flight, into a file that was just created, while another thread
 * calls fdatasync every 100 ms. Measures the time that io_submit takes from the submitting thread.
 *
 *     fdb direct|buffered sparse|growing SECONDS FILE
 *
 * Prints: share of the thread's time inside io_submit (%), p50, p99, p99.9 and longest io_submit (us), IOPS, number of fdatasyncs.
 */
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MUST(x)                                                                                                        \
    do {                                                                                                               \
        if (!(x)) {                                                                                                    \
            fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #x, errno);                                \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

enum { DEPTH = 32, SIZE = 4096, MOST = 20 << 20 };
static const long long SPAN = 1LL << 30;

static int fd;
static volatile int stop;
static long syncs;

static uint64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void *syncer(void *arg)
{
    (void)arg;
    while (!stop) {
        usleep(100000);
        MUST(fdatasync(fd) == 0);
        syncs++;
    }
    return NULL;
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
    static struct iocb cb[DEPTH];
    static struct io_event ev[DEPTH];
    struct iocb *free_list[DEPTH];
    io_context_t ctx = NULL;
    pthread_t thread;
    uint32_t *spent;
    long n = 0, events = 0, eagain = 0;
    uint64_t seed = 88172645463325252u, inside = 0, began, end, limit;
    int free_n = 0;

    if (argc != 5)
        return 2;
    fd = open(argv[4], O_RDWR | O_CREAT | O_EXCL | (strcmp(argv[1], "direct") == 0 ? O_DIRECT : 0), 0600);
    MUST(fd >= 0);
    int growing = strcmp(argv[2], "growing") == 0;
    if (!growing)
        MUST(ftruncate(fd, SPAN) == 0);
    MUST(io_setup(DEPTH, &ctx) == 0);
    MUST((spent = calloc(MOST, sizeof(*spent))) != NULL);
    for (int i = 0; i < DEPTH; i++) {
        void *buf;

        MUST(posix_memalign(&buf, 4096, SIZE) == 0);
        /* As pages of a database: half of it can be compressed. (zram does not store what is one byte all over.) */
        for (size_t at = 0; at < SIZE / 2; at += sizeof(seed)) {
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            memcpy((char *)buf + at, &seed, sizeof(seed));
        }
        memset((char *)buf + SIZE / 2, 'a' + i % 26, SIZE / 2);
        cb[i].u.c.buf = buf;
        free_list[free_n++] = &cb[i];
    }
    MUST(pthread_create(&thread, NULL, syncer, NULL) == 0);
    began = now();
    limit = began + strtoull(argv[3], NULL, 10) * 1000000000;
    while (now() < limit && n < MOST) {
        while (free_n > 0) {
            struct iocb *one = free_list[free_n - 1];
            uint64_t before, after;
            int ret;

            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            io_prep_pwrite(one, fd, one->u.c.buf, SIZE, growing ? (long long)n * SIZE : (long long)(seed % (uint64_t)(SPAN / SIZE)) * SIZE);
            before = now();
            ret = io_submit(ctx, 1, &one);
            after = now();
            inside += after - before;
            if (ret == -EAGAIN) {
                eagain++;
                break;
            }
            MUST(ret == 1);
            free_n--;
            if (n < MOST)
                spent[n] = after - before > UINT32_MAX ? UINT32_MAX : (uint32_t)(after - before);
            n++;
        }
        int got = io_getevents(ctx, 1, DEPTH, ev, NULL);
        MUST(got > 0);
        for (int i = 0; i < got; i++) {
            MUST((long)ev[i].res == SIZE);
            free_list[free_n++] = ev[i].obj;
        }
        events += got;
    }
    end = now();
    while (free_n < DEPTH) {
        int got = io_getevents(ctx, 1, DEPTH, ev, NULL);

        MUST(got > 0);
        free_n += got;
    }
    stop = 1;
    pthread_join(thread, NULL);
    MUST(io_destroy(ctx) == 0);
    unlink(argv[4]);
    if (n > MOST)
        n = MOST;
    qsort(spent, (size_t)n, sizeof(*spent), compare);
    printf("%.1f %.2f %.2f %.2f %.1f %.0f %ld\n", (double)inside * 100 / (double)(end - began), spent[n / 2] / 1e3, spent[n * 99 / 100] / 1e3,
           spent[n * 999 / 1000] / 1e3, spent[n - 1] / 1e3, (double)events * 1e9 / (double)(end - began), syncs);
    if (eagain != 0)
        fprintf(stderr, "io_submit said -EAGAIN %ld times\n", eagain);
    return 0;
}
