#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# container.sh docker|old preload|path|run NAME...: programs of this directory, one after the other, behind a filter of system calls as
# containers have it (container.c), each given a directory on an ext4 file system of its own if we are root, and a block device if there is one.
. "$(dirname "$0")/common.sh" || exit 1
on_ours "$2"
container=$(build container) || exit 1
via=("$container" "$1" "${via[@]}")
check_on_ours
# There are no other descriptor tables.
[ "$1" != old ] || export SUBMIT_WAITS=1
place
for name in "${@:3}"; do
    program=$(build "$name") || exit 1
    in_background "${via[@]}" "$program" "$directory" ${device:+"$device"}
    [ "$status" = 0 ] || [ "$status" = 77 ] || fail "$name ended with $status"
done
