#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# program.sh preload|object|path|run NAME: a program of this directory, on an ext4 file system of its own if we are root. It ends with
# 0, 1 or 77 and is given a directory, and a block device if there is one.
. "$(dirname "$0")/common.sh" || exit 1
on_ours "$1"
program=$(build "$2") || exit 1
check_on_ours
place
in_background "${via[@]}" "$program" "$directory" ${device:+"$device"}
exit "$status"
