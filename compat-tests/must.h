/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The common part of the programs here. */
#ifndef MUST_H
#define MUST_H

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MUST(x)                                                                                                        \
    do {                                                                                                               \
        if (!(x)) {                                                                                                    \
            fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #x, errno);                                \
            _exit(1);                                                                                                  \
        }                                                                                                              \
    } while (0)

static inline bool is_set(const char *name)
{
    const char *value = getenv(name);

    return value != NULL && strcmp(value, "1") == 0;
}

/* How many of these rounds to make: FEWER=N in the environment divides them. */
static inline int fewer(int all)
{
    const char *divisor = getenv("FEWER");

    return divisor != NULL ? (all + atoi(divisor) - 1) / atoi(divisor) : all;
}

/* io_submit waits for what it submits: the kernel's does, and the library's in a sandbox where it can have no threads with other descriptors. */
static inline bool submit_waits(void)
{
    return is_set("REAL") || is_set("SUBMIT_WAITS");
}

#endif
