/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* fork_storm.c, ten times as long. */
/* time limit: 900 s */
#define FORKS 100000
#include "fork_storm.h"
