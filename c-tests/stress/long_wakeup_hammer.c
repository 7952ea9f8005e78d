/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* wakeup_hammer.c, fifty times as long. */
/* time limit: 1800 s */
#define SCALE 50
#include "wakeup_hammer.h"
