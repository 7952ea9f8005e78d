/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* exactly_once_nop.c, with a hundred million. */
/* time limit: 1800 s */
#define MOST 100000000
#include "exactly_once_nop.h"
