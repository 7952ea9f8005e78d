/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * No wake-up is lost: ping-pong between threads, several waiters that want different numbers of bytes, random timeouts, a storm
 * of signals. Most waits have no limit: a lost wake-up hangs, and the watchdog reports it. A wait that ends early has a reason:
 * its timeout is over, or a handler has run.
 */
#define SCALE 1
#include "wakeup_hammer.h"
