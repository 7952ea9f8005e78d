/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Exactly once: a million reads of a file from eight submitters to eight reapers, half of them in user space,
 * through one one-page ring. Every `data` is seen once, every block holds what the file has, the counters agree.
 */
#define MOST 1000000
#include "exactly_once_read.h"
