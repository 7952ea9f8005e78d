#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# fdb.sh [ROUNDS [SECONDS]]: the FoundationDB shape (fdb.c) with the kernel's AIO and with ours, alternately, in files of
# $DIR (default: a temporary directory). COMPATDIR is the directory with our libaio.so.1.
#
# The medians over the rounds are compared with the aims: under 15 % of the time inside io_submit, p99.9 under 50 us, IOPS
# at least 0.9 of the kernel's. Ends with 1 if one is missed and CHECK=1 is set.

set -eu
here=$(cd "$(dirname "$0")" && pwd)
rounds=${1:-5} seconds=${2:-3}
: "${COMPATDIR:?directory with our libaio.so.1}"
COMPATDIR=$(cd "$COMPATDIR" && pwd)
CC=${CC:-cc}
temp=$(mktemp -d "${DIR:-${TMPDIR:-/tmp}}/fdb.XXXXXX")
trap 'rm -rf "$temp"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
"$CC" -std=gnu11 -O2 -D_GNU_SOURCE -Wall -Wextra -o "$temp/fdb" "$here/fdb.c" -laio -lpthread

echo "4 KiB writes, one a call, depth 32, fdatasync every 100 ms; $rounds rounds of $seconds s each; $(nproc) processors, $(findmnt -n -o FSTYPE -T "$temp" 2>/dev/null || echo '?')"
printf '%-18s %-7s %9s %9s %9s %9s %10s %9s\n' '' '' 'in submit' p50 p99 p99.9 longest IOPS
missed=0
for mode in direct buffered; do
    for shape in sparse growing; do
        : >"$temp/kernel"
        : >"$temp/ours"
        for ((round = 0; round < rounds; round++)); do
            for which in kernel ours; do
                path=
                [ $which = kernel ] || path=$COMPATDIR
                LD_LIBRARY_PATH=$path "$temp/fdb" $mode $shape "$seconds" "$temp/file" >>"$temp/$which"
                rm -f "$temp/file"
                sync -f "$temp"
            done
        done
        for which in kernel ours; do
            # The median of each column, and the longest of all.
            awk '{ for (i = 1; i <= NF; i++) v[i, NR] = $i }
                function median(c,    n, i, j, t, a) {
                    for (i = 1; i <= NR; i++) a[i] = v[c, i] + 0
                    for (i = 1; i <= NR; i++) for (j = i + 1; j <= NR; j++) if (a[j] < a[i]) { t = a[i]; a[i] = a[j]; a[j] = t }
                    return a[int((NR + 1) / 2)]
                }
                END { max = 0; for (i = 1; i <= NR; i++) if (v[5, i] + 0 > max) max = v[5, i] + 0
                    print median(1), median(2), median(3), median(4), max, median(6) }' "$temp/$which" >"$temp/$which.median"
            # shellcheck disable=SC2046
            printf '%-18s %-7s %7.1f %% %6.1f us %6.1f us %6.1f us %7.0f us %9.0f\n' "$mode, $shape" $which $(cat "$temp/$which.median")
        done
        paste -d ' ' "$temp/kernel.median" "$temp/ours.median" | awk -v what="$mode, $shape" '{
            verdict = ""
            if ($7 >= 15) verdict = verdict " share"
            if ($10 >= 50) verdict = verdict " p99.9"
            if ($12 < 0.9 * $6) verdict = verdict " IOPS"
            printf "%-18s %-7s %7.2f   %6.2f    %6.2f    %6.2f    %7.2f    %9.2f   %s\n", what, "ratio", $7 / $1, $8 / $2, $9 / $3, $10 / $4, $11 / $5, $12 / $6,
                verdict == "" ? "as aimed at" : "missed:" verdict
            exit verdict != "" }' || missed=1
    done
done
[ "$missed" = 0 ] || [ "${CHECK:-0}" != 1 ]
