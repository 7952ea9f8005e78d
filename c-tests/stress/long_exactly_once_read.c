/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* exactly_once_read.c, with twenty million. */
/* time limit: 1800 s */
#define MOST 20000000
#include "exactly_once_read.h"
