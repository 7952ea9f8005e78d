#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# reactor.sh [ROUNDS [REQUESTS]]: how long a call holds the thread of a reactor that writes logs (reactor.c), on XFS and ext4, each on a zram
# and on a loop device, that are made for it and removed afterwards: by libaio2's own calls, by libaio's under aio2-run, and by the kernel's AIO, in
# turn. Medians of the rounds, the longest of all. Beside the calls: 10 us in which the thread calls nothing, and others take its processor, too.
# `make lib` builds what it needs; without root there are no devices, and nothing is measured.
#
# The goal: no call is longer than 50 us at p99.9, and IOPS are at least the kernel's.

set -u
export LC_ALL=C
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/.." && pwd)
rounds=${1:-5} requests=${2:-40000}
lib=${LIBDIR:-$root/build/lib} run=${RUN:-$root/bin/aio2-run}
. "$root/fio/devices.sh"
CC=${CC:-cc}

[ -e "$lib/libaio2.so" ] || { echo "reactor.sh: make lib" >&2; exit 1; }
[ "$(id -u)" -eq 0 ] || { echo "reactor.sh: SKIPPED: only root can make devices" >&2; exit 77; }
TMPDIR=${DIR:-${TMPDIR:-/var/tmp}} devices_begin
build() { # PROGRAM ARGUMENT...
    "$CC" -std=gnu11 -O2 -D_GNU_SOURCE -Wall -Wextra -I"$root/include" -o "$temp/$1" "$here/reactor.c" "${@:2}" || exit 1
}
build v2 -L"$lib" -laio2 -lpthread -Wl,-rpath,"$lib"
build libaio -DLIBAIO -laio -lpthread

measure() { # WHO: adds a line to the file of that name
    local via=("$temp/libaio")
    case $1 in
    v2) via=("$temp/v2") ;;
    drop-in) via=("$run" "$temp/libaio") ;;
    esac
    in_background "${via[@]}" "$mount" "$requests" >>"$temp/times-$1"
    [ "$status" = 0 ] || { echo "reactor.sh: $1 failed on $what" >&2; exit 1; }
}

echo "4 KiB O_DIRECT appends and overwrites, 16 and an fdatasync a call; $rounds rounds of $requests writes; $(nproc) processors"
printf '%-14s %-8s %8s %7s %27s %27s %27s   %s\n' '' '' IOPS 'CPU us' 'submit: p50, p99.9, longest' 'events: p50, p99.9, longest' \
    'no call: p50, p99.9, longest' 'IOPS / kernel'
for kind in zram loop; do
    for fs in xfs ext4; do
        what="$fs on $kind"
        command -v "mkfs.$fs" >/dev/null || { echo "$what: SKIPPED: there is no mkfs.$fs" >&2; continue; }
        "$kind" 1024 || { echo "$what: SKIPPED: no $kind device" >&2; continue; }
        mount=$(mktemp -d "$temp/mount-XXXXXX") || exit 1
        { "mkfs.$fs" "$device" && mount "$device" "$mount"; } >"$temp/out" 2>&1 || {
            echo "$what: SKIPPED: it cannot be made or mounted: $(tail -n 1 "$temp/out")" >&2
            continue
        }
        rm -f "$temp"/times-*
        order=(kernel drop-in v2)
        for ((round = 0; round < rounds; round++)); do
            for who in "${order[@]}"; do
                measure "$who"
            done
            order=("${order[@]:1}" "${order[0]}")
        done
        for who in kernel drop-in v2; do
            paste -d ' ' "$temp/times-$who" "$temp/times-kernel" | awk -v what="$what" -v who="$who" '
                function median(of,    i, j, t) {
                    for (i = 1; i <= NR; i++) for (j = i + 1; j <= NR; j++) if (of[j] < of[i]) { t = of[i]; of[i] = of[j]; of[j] = t }
                    return of[int((NR + 1) / 2)]
                }
                function column(c,    i, of) { for (i = 1; i <= NR; i++) of[i] = v[c, i]; return median(of) }
                { for (i = 1; i <= 11; i++) v[i, NR] = $i + 0
                  for (i = 5; i <= 11; i += 3) if ($i + 0 > longest[i] + 0) longest[i] = $i + 0
                  ratio[NR] = $1 / $12 }
                END { printf "%-14s %-8s %8.0f %7.1f", what, who, column(1), column(2)
                      for (i = 3; i <= 9; i += 3) printf " %9.1f %8.1f %8.0f", column(i), column(i + 1), longest[i + 2]
                      printf "   %.2f%s\n", median(ratio), (column(4) >= 50 || column(7) >= 50 ? "   held" : "") }'
        done
        umount "$mount"
    done
done
