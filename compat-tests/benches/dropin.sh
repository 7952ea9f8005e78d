#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# dropin.sh [ROUNDS [SECONDS]]: the cost of the drop-in. fio with its own libaio engine on the kernel's AIO and, under aio2-run,
# on ours, and with our engine for libaio2's own calls, in turn, on one device: a zram device made for this, or as another
# user than root a file in $DIR (default: a temporary directory). `make lib fio-engine` builds what it needs.
#
# For each cell: the medians of the I/O operations per second, and the median and the range over the rounds of the drop-in's
# divided by our engine's (the aim is 0.9 or more) and by the kernel's. Ends with 1 if the aim is missed and CHECK=1 is set.

set -u
export LC_ALL=C
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
rounds=${1:-5} seconds=${2:-2}
run=${RUN:-$root/bin/aio2-run}
engine=${ENGINE:-$root/build/fio/aio2-engine.so}
. "$root/fio/devices.sh"

command -v fio >/dev/null || { echo "dropin.sh: there is no fio" >&2; exit 1; }
[ -e "$engine" ] || { echo "dropin.sh: there is no $engine: make fio-engine" >&2; exit 1; }
TMPDIR=${DIR:-${TMPDIR:-/tmp}} devices_begin
file=$temp/file
if zram 256; then
    target=$device
else
    target=$temp/target
fi
# Written once: blocks that were never written are read without the device.
for path in "$target" "$file"; do
    in_background dd if=/dev/urandom of="$path" bs=1M count=128 conv=notrunc,fsync 2>/dev/null
    [ "$status" = 0 ] || { echo "dropin.sh: cannot write $path" >&2; exit 1; }
done

# WHO CELL: one round of fio, adds its operations per second to the list of that name.
measure() {
    local via=() how=(--ioengine=libaio)
    case $1 in
    dropin) via=("$run") ;;
    v2) how=(--ioengine=external:"$engine") ;;
    esac
    # shellcheck disable=SC2086 # the cell is words
    in_background "${via[@]}" fio --name=job "${how[@]}" $2 --bs=4k --size=128M --randrepeat=1 --norandommap --time_based \
        --runtime="$seconds" --ramp_time=0.3 --thread=1 --output-format=terse --terse-version=3 >"$temp/out" 2>&1 </dev/null
    awk -F ';' '$1 == 3 && $5 == 0 { n = $8 + $49 } END { if (n <= 0) exit 1; print n }' "$temp/out" >>"$temp/$1" || {
        cat "$temp/out" >&2
        echo "dropin.sh: fio failed ($1, $2)" >&2
        exit 1
    }
}

echo "fio, 4 KiB, on ${target/$temp/a file in ${temp%/*}} and buffered on a file ($(findmnt -n -o FSTYPE -T "$temp" 2>/dev/null || echo '?'));" \
    "$rounds rounds of $seconds s each; $(nproc) processors"
printf '%-24s %9s %9s %9s   %-22s %-22s\n' IOPS kernel drop-in v2 'drop-in / v2' 'drop-in / kernel'
missed=0
for cell in \
    "randread, depth 1=--filename=$target --direct=1 --rw=randread --iodepth=1" \
    "randread, depth 32=--filename=$target --direct=1 --rw=randread --iodepth=32" \
    "randwrite, depth 32=--filename=$target --direct=1 --rw=randwrite --iodepth=32" \
    "buffered, hot, depth 32=--filename=$file --direct=0 --invalidate=0 --rw=randread --iodepth=32"; do
    rm -f "$temp"/{kernel,dropin,v2}
    order=(kernel dropin v2)
    cat "$file" >/dev/null
    for ((round = 0; round < rounds; round++)); do
        for who in "${order[@]}"; do
            measure "$who" "${cell#*=}"
        done
        order=("${order[@]:1}" "${order[0]}")
    done
    paste -d ' ' "$temp/kernel" "$temp/dropin" "$temp/v2" | awk -v what="${cell%%=*}" '
        # In order, so that the middle and both ends can be seen.
        function sort(a,    i, j, t) {
            for (i = 1; i <= NR; i++) for (j = i + 1; j <= NR; j++) if (a[j] < a[i]) { t = a[i]; a[i] = a[j]; a[j] = t }
            return a[int((NR + 1) / 2)]
        }
        { kernel[NR] = $1; dropin[NR] = $2; v2[NR] = $3; a[NR] = $2 / $3; b[NR] = $2 / $1 }
        END {
            ratio = sort(a); other = sort(b)
            printf "%-24s %9.0f %9.0f %9.0f   %.2f (%.2f to %.2f)    %.2f (%.2f to %.2f)%s\n", what, sort(kernel), sort(dropin), sort(v2),
                ratio, a[1], a[NR], other, b[1], b[NR], ratio < 0.9 ? "   missed" : ""
            exit ratio < 0.9
        }' || missed=1
done
[ "$missed" = 0 ] || [ "${CHECK:-0}" != 1 ]
