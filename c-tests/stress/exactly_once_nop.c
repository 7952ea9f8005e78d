/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Exactly once: five million NOPs from eight submitters to eight reapers, half of them in user space, through
 * one one-page ring. Every `data` is seen once; the ring's counters agree with the sums.
 */
#define MOST 5000000
#include "exactly_once_nop.h"
