# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The common part of the test scripts; to be sourced. run.sh has set LIBDIR, COMPATDIR, RUN, REAL, BUILD, CC.

set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
FIO_DIR=${FIO_DIR:-$root/fio}

skip() {
    echo "SKIPPED: $*"
    exit 77
}

fail() {
    echo "$*"
    exit 1
}

need() {
    local tool
    for tool; do
        command -v "$tool" >/dev/null || skip "there is no $tool (compat-tests/packages names what is needed)"
    done
}

need_root() {
    [ "$(id -u)" = 0 ] || skip "needs root"
}

# Sets `via`, the words before a command, so that it runs on ours: by `preload` (of the library alone, which is what a program has that is
# linked with it), by `object` (a preload of what aio2-run preloads), by `path`, or by aio2-run (`run`; `run?` is satisfied with the preload alone
# where there is no aio2-run).
on_ours() {
    via=()
    [ "$REAL" != 1 ] || return 0
    case $1 in
    preload) via=(env "LD_PRELOAD=$LIBDIR/libaio2.so.0") ;;
    object)
        [ -e "$LIBDIR/aio2/libaio2-preload.so" ] || skip "there is no $LIBDIR/aio2/libaio2-preload.so"
        via=(env "LD_PRELOAD=$LIBDIR/aio2/libaio2-preload.so")
        ;;
    path)
        [ -n "$COMPATDIR" ] && [ -e "$COMPATDIR/libaio.so.1" ] || skip "needs COMPATDIR with our libaio.so.1"
        via=(env "LD_LIBRARY_PATH=$COMPATDIR")
        ;;
    run)
        [ -n "$RUN" ] || skip "needs RUN=aio2-run"
        via=("$RUN")
        ;;
    'run?') if [ -n "$RUN" ]; then via=("$RUN"); else on_ours preload; fi ;;
    *) fail "on_ours $1?" ;;
    esac
}

# That a program is really on ours, and not by mistake on the system's libaio: contexts that are not the
# kernel's do not show in aio-nr. `check_on_ours` before a test costs one short run.
check_on_ours() {
    local program out
    [ "$REAL" != 1 ] || return 0
    program=$(build whose) || exit 1
    out=$("${via[@]}" "$program") || fail "a program cannot be run with: ${via[*]}"
    [ "$out" = ours ] || fail "with '${via[*]}' io_setup still comes from $out"
}

# Compiles $here/NAME.c against the real libaio, unless that has been done, and prints the program's path. A function of the
# program's may take the place of one of libc's for the library, too.
build() {
    local name=$1 program=$BUILD/$1.test input current=1 temp
    for input in "$here/$name.c" "$here"/*.h; do
        [ "$program" -nt "$input" ] || current=0
    done
    if [ $current = 0 ]; then
        temp=$(mktemp "$program.XXXXXX")
        # shellcheck disable=SC2086 # CFLAGS are words
        if ! $CC -std=gnu11 -O2 -g -D_GNU_SOURCE -Wall -Wextra -Werror ${CFLAGS:-} -o "$temp" "$here/$name.c" -laio -rdynamic -lpthread -ldl >&2; then
            rm -f "$temp"
            echo "cannot build $name.c" >&2
            return 1
        fi
        mv "$temp" "$program"
    fi
    echo "$program"
}

# Devices for this test (see fio/devices.sh), gone when it ends.
devices() {
    . "$FIO_DIR/devices.sh"
    devices_begin
}

# ext4 MB: a new ext4 file system of that size, mounted at $mounted.
ext4() {
    need mkfs.ext4
    loop "$1" || skip "no loop device"
    mkfs.ext4 -q -F "$device" >/dev/null 2>&1 || skip "mkfs.ext4 failed"
    mounted=$(mktemp -d "$temp/mount-XXXXXX")
    mount "$device" "$mounted" || skip "cannot mount"
}

# place: sets $directory, on an ext4 file system of its own if we are root, and $device, a block device, if there is one.
place() {
    devices
    directory=$temp device=
    if [ "$(id -u)" = 0 ]; then
        ext4 512
        directory=$mounted
        zram 128 || device=
    fi
}

# target KIND MB: sets $target, a file on a new ext4 or a new block device.
target() {
    case $1 in
    ext4)
        ext4 "$(($2 + 64))"
        target=$mounted/target
        ;;
    zram)
        zram "$2" || skip "no zram"
        target=$device
        ;;
    loop)
        loop "$2" || skip "no loop device"
        target=$device
        ;;
    esac
}
