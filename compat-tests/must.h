/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the programs here share. */
#ifndef MUST_H
#define MUST_H

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define MUST(x)                                                                                                        \
    do {                                                                                                               \
        if (!(x)) {                                                                                                    \
            fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #x, errno);                                \
            _exit(1);                                                                                                  \
        }                                                                                                              \
    } while (0)

#endif
