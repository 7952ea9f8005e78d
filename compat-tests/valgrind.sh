#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# A program runs under valgrind, which refuses some system calls, and valgrind finds no error.
. "$(dirname "$0")/common.sh" || exit 1
need valgrind
on_ours path
program=$(build robust) || exit 1
check_on_ours
devices
in_background "${via[@]}" valgrind -q --error-exitcode=99 --fair-sched=yes "$program" "$temp" order
exit "$status"
