#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# diff.sh preload|path|run PART: diff.c with the real libaio and with ours, on the same files and devices; their
# outputs differ only where differences.txt says so.
. "$(dirname "$0")/common.sh" || exit 1
how=$1 part=$2
if [ "$how" = run ] && [ "$part" != raw ]; then on_ours 'run?'; else on_ours "$how"; fi
program=$(build diff) || exit 1
check_on_ours
devices
ext4=
if [ "$(id -u)" = 0 ]; then
    ext4 512
    on=$mounted
    zram 64 || { loop 64 || device=; }
else
    echo "not root: on $temp, without a block device"
    on=$temp
    device=
fi
tmpfs=$(mktemp -d "/dev/shm/aio2.XXXXXX" 2>/dev/null) || tmpfs=$temp
remove() {
    local exit_status=$?
    [ "$tmpfs" = "$temp" ] || rm -rf "$tmpfs"
    return $exit_status
}
trap 'remove; devices_end' EXIT

once() { # OUTPUT COMMAND...
    local output=$1
    shift
    rm -rf "${on:?}"/f
    mkdir "$on/f"
    # By a pipe: some sections limit the size of files, which would be the output's as well.
    # shellcheck disable=SC2016
    in_background bash -c 'set -o pipefail; "$@" 2>&1 | cat' - "$@" "$program" "$part" "$on/f" "$tmpfs" ${device:+"$device"} >"$output"
    [ "$status" = 0 ] || fail "$* ended with $status"
}
once "$BUILD/diff-$part.real" env
once "$BUILD/diff-$part-$1.ours" ${via[@]+"${via[@]}"}
if grep -n 'TEST ITSELF\|HANGS' "$BUILD/diff-$part.real"; then
    fail "the test does not work with the real libaio"
fi
python=$(command -v python3) || skip "there is no python3"
"$python" "$here/diff.py" "$BUILD/diff-$part.real" "$BUILD/diff-$part-$1.ours" "$here/differences.txt" "$how"
