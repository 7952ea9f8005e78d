#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The demo: builds demo.c against an installed libaio2 as any program would (pkg-config), runs it, and then fio with
# our engine, each on a block device of its own. For `make demo`, which has built both before:
#
#     PKG_CONFIG_PATH  where aio2.pc is       (default: in build/demo-prefix, where this tree is installed then)
#     AIO2_ENGINE      the fio engine         (default: build/fio/aio2-engine.so)
#     BUILD            where the program goes (default: build/demo)
#
# The devices are removed in every case, also after Ctrl-C.

set -u

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
build=$(realpath -m "${BUILD:-$root/build/demo}")
engine=$(realpath -m "${AIO2_ENGINE:-$root/build/fio/aio2-engine.so}")
. "$root/fio/devices.sh"

die() {
    echo "demo: $*" >&2
    exit 1
}

if [ -z "${PKG_CONFIG_PATH:-}" ]; then
    prefix=$root/build/demo-prefix
    PKG_CONFIG_PATH=$prefix/lib/pkgconfig
    # All of them, since make exports its own. DESTDIR: so that the system's loader cache is left alone.
    env -u MAKEFLAGS make -s -C "$root" install DESTDIR=/ PREFIX="$prefix" BINDIR="$prefix/bin" LIBDIR="$prefix/lib" INCLUDEDIR="$prefix/include" \
        PKGCONFIGDIR="$PKG_CONFIG_PATH" DATADIR="$prefix/share" MANDIR="$prefix/share/man" >/dev/null || die "cannot install into $prefix"
fi
export PKG_CONFIG_PATH
pkg-config --exists aio2 || die "pkg-config does not find aio2 in $PKG_CONFIG_PATH"
[ -e "$engine" ] || die "no fio engine $engine: run 'make fio-engine'"
command -v fio >/dev/null || die "fio is not installed"

mkdir -p "$build" || exit 1
# The flags are words. rpath: the prefix of the install is not where the loader looks.
# shellcheck disable=SC2046
${CC:-cc} -std=c11 -O2 -g -D_GNU_SOURCE -Wall -Wextra $(pkg-config --cflags aio2) -o "$build/demo" "$here/demo.c" \
    $(pkg-config --libs aio2) -Wl,-rpath,"$(pkg-config --variable=libdir aio2)" || die "demo.c does not compile"

devices_begin
# fio leaves files of its own where it runs.
cd "$temp" || exit 1

[ "$(id -u)" -eq 0 ] || echo "Not root: no block device can be made, so files take their place."
# So that the program can make itself a zram device, where zram is a module.
[ -e /sys/class/zram-control ] || modprobe zram num_devices=0 2>/dev/null

in_background "$build/demo"
[ "$status" -eq 0 ] || die "the program failed (status $status)"

size=128
direct=1
if ! zram $size && ! loop $size; then
    device=$temp/file
    truncate -s ${size}M "$device"
    # Not every file system has O_DIRECT.
    dd if="$device" of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null || direct=0
fi

echo
echo "fio with the aio2 engine: $device, $size MiB, randrw in requests of 4096 bytes$([ $direct = 0 ] || echo ", O_DIRECT"), depth 32, reaped from user space, verified"
in_background fio --ioengine=external:"$engine" --userspace_reap=1 --timing=1 --name=demo --filename="$device" --direct=$direct \
    --rw=randrw --bs=4k --size=${size}m --iodepth=32 --verify=crc32c --verify_fatal=1 \
    --output-format=terse --terse-version=3 >"$temp/terse" 2>"$temp/report" </dev/null
if [ "$status" -ne 0 ]; then
    cat "$temp/report" >&2
    die "fio failed (status $status)"
fi
# Terse output, version 3: from field 6 (reads) and 47 (writes) on: KiB, KiB/s, IOPS, ms, submission latency (4 fields),
# completion latency (min, max, mean, deviation, 20 percentiles) in microseconds.
awk -F';' '
    function percentile(from, wanted,   i, pair) {
        for (i = from; i < from + 20; i++) {
            split($i, pair, "%=")
            if (pair[1] + 0 == wanted)
                return pair[2]
        }
        return "-"
    }
    function row(name, from) {
        printf "   %-6s %10d %9.0f %24s %9s %9s\n", name, $(from + 2), $(from + 1) / 1024,
            percentile(from + 12, 50), percentile(from + 12, 99), $(from + 9)
    }
    $1 == 3 {
        print "                IOPS     MiB/s   latency (µs)       p50       p99       max"
        row("write", 47)
        row("read", 6)
    }' "$temp/terse"
cat "$temp/report"
