#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# harness.sh partcheck|extracheck preload|path: libaio's own tests, from its source package, unchanged except the number of repetitions of two
# cases (see below).
. "$(dirname "$0")/common.sh" || exit 1
need make "$CC"
check=$1 how=$2
case $check in
partcheck) expected=19 ;;
extracheck)
    need_root
    need mke2fs mount losetup
    expected=2
    ;;
esac
on_ours "$how"
[ $check = partcheck ] || devices
check_on_ours

"$FIO_DIR/fetch-src.sh" libaio1 "$BUILD/libaio" || skip "no source of libaio"
# A copy for each: they write into their own directory, and must not meet.
work=$BUILD/harness-$check-$how
unmount() {
    local exit_status=$?
    umount "$work"/harness/testdir.{enospc,ext2} 2>/dev/null
    return $exit_status
}
unmount
rm -rf "$work"
mkdir -p "$work"
cp -R "$BUILD/libaio/." "$work"
cd "$work/harness" || exit 1

# Built without anything of ours around, against the installed library. No target of its Makefile runs case 23; it
# needs no more than the others of partcheck.
case $check in
partcheck) list=$(find cases -name '*.t' | grep -v '/\(8\|10\)\.t') ;;
extracheck) list=$(find cases -name '*.t' | grep '/\(8\|10\|23\)\.t') ;;
esac
# Two of the cases repeat one thing many times: only a long check does it as often.
if [ "${LONG:-0}" = 0 ]; then
    sed -i 's/^#define COUNT\t1000000$/#define COUNT\t10000/' cases/11.t
    sed -i 's/i < 1000; i++/i < 100; i++/' cases/18.t
fi
# shellcheck disable=SC2086
make -s LIBAIO=-laio ${list//.t/.p} >build.out 2>&1 || { cat build.out; fail "the harness cannot be built"; }

if [ $check = extracheck ]; then
    # Before devices_end, which ends the loop devices of its own.
    trap 'unmount; devices_end' EXIT
    in_background "${via[@]}" make LIBAIO=-laio extracheck >out 2>&1 </dev/null
else
    "${via[@]}" make LIBAIO=-laio partcheck >out 2>&1 </dev/null
    status=$?
    "${via[@]}" ./runtests.sh cases/23.p >>out 2>&1 </dev/null || status=1
fi
cat out
passes=$(sed -n 's/^Pass: \([0-9]*\) .*/\1/p' out | awk '{ n += $1 } END { print n + 0 }')
bad=$(sed -n 's/^Pass: .* Fail: \([0-9]*\) *Skip: \([0-9]*\)$/\1 \2/p' out | awk '{ n += $1 + $2 } END { print n + 0 }')
[ "$status" = 0 ] && [ "$passes" = $expected ] && [ "$bad" = 0 ] ||
    fail "make $check: status $status, $passes passed of $expected, $bad failed or skipped"
