#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# stress-ng's aiol stressor, by system calls without libaio, with its own verification: under aio2-run it makes no
# context of the kernel's AIO.
. "$(dirname "$0")/common.sh" || exit 1
need stress-ng
on_ours run
devices
cd "$temp" || exit 1
in_background "${via[@]}" stress-ng --aiol 4 --aiol-requests 64 --verify --timeout 6 --metrics-brief --temp-path "$temp" >out 2>&1 </dev/null
cat out
[ "$status" = 0 ] || fail "exit status $status"
grep -q 'successful run completed' out || fail "no successful run"
! grep -qi 'fail:' out || fail "stress-ng complains"
! grep -qi 'skipped stressor' out || fail "the stressor was skipped"
[ "$REAL" != 1 ] || exit 0
# It might have run on the kernel unnoticed.
if command -v strace >/dev/null; then
    timeout 20 strace -f -qq -e trace=io_setup,io_submit,io_getevents -o "$temp/trace" "${via[@]}" \
        stress-ng --aiol 1 --timeout 2 --temp-path "$temp" >/dev/null 2>&1 </dev/null
    # Those of libaio2's own have other sizes than the program's.
    own=$(grep 'io_setup(.*= 0' "$temp/trace" | grep -v 'io_setup(\(132\|256\), ')
    [ -z "$own" ] || fail "the program has contexts of the kernel's AIO: $own"
fi
