#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# calls.sh preload|path: one io_submit() asks the kernel once about each of a few files, and sends each once to the threads that carry the
# requests out, however many requests name them in turn. Counted by strace, with twofiles.c: 50 calls, three files.
. "$(dirname "$0")/common.sh" || exit 1
need strace
strace -o /dev/null true 2>/dev/null || skip "strace may not trace"
on_ours "$1"
program=$(build twofiles) || exit 1
check_on_ours
place
in_background strace -e trace=sendmsg,fcntl -o "$temp/trace" "${via[@]}" "$program" "$directory"
[ "$status" = 0 ] || fail "the program ends with $status"
[ "$REAL" != 1 ] || exit 0
sent=$(grep -c '^sendmsg(.*SCM_RIGHTS' "$temp/trace")
asked=$(grep -c '^fcntl(.*F_GETFL)' "$temp/trace")
echo "sent: $sent, asked: $asked"
if [ "$sent" -gt 160 ] || [ "$asked" -gt 160 ]; then
    fail "more than three in each of 50 calls"
fi
