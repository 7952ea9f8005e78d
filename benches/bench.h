/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The common part of the benchmarks in C. */
#ifndef AIO2_BENCH_H
#define AIO2_BENCH_H

#include <aio2.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define UNUSED __attribute__((unused))

static UNUSED void must(const char *what, long long ret)
{
    if (ret < 0) {
        fprintf(stderr, "%s: %s\n", what, strerror((int)-ret));
        exit(1);
    }
}

/* For calls that say -1, and why in errno. */
static UNUSED int checked(const char *what, int ret)
{
    if (ret < 0) {
        perror(what);
        exit(1);
    }
    return ret;
}

static UNUSED double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static UNUSED io_context2_t setup(uint32_t ring_bytes, uint32_t max_requests, uint32_t workers)
{
    struct io_setup2_params params = {
        .bytes = sizeof(params), .ring_bytes = ring_bytes, .max_requests = max_requests, .workers = workers, .eventfd = -1
    };
    io_context2_t ctx = NULL;

    must("io_setup2", io_setup2(IO_SETUP2_VERSION, &params, &ctx));
    return ctx;
}

static UNUSED pthread_t start(void *(*run)(void *), void *arg)
{
    pthread_t thread;

    must("pthread_create", -pthread_create(&thread, NULL, run, arg));
    return thread;
}

static UNUSED int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Of `n` values, which it sorts: so much of 1 of them are less. */
static UNUSED double quantile(double *values, size_t n, double q)
{
    qsort(values, n, sizeof(*values), compare);
    return values[(size_t)((double)(n - 1) * q)];
}

static UNUSED double median(double *values, size_t n)
{
    return quantile(values, n, 0.5);
}

#endif /* AIO2_BENCH_H */
