/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Ten thousand forks from four threads in the middle of heavy I/O. The children exit in both ways, set up
 * contexts of their own and do I/O, use inherited handles and inherited rings, and fork again; none of
 * them sees, steals or disturbs anything, and the parent gets each of its events exactly once.
 */
#define FORKS 10000
#include "fork_storm.h"
