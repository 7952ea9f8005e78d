/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef NOW_H
#define NOW_H

#include <time.h>

/* CLOCK_MONOTONIC in seconds. */
static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

#endif
