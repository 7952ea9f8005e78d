#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# run.sh [--quick | --limits | --ablation] [--before CHECKOUT] [--rounds N] [--seconds S] [--out DIR] [CELL...]: the cost of a request, beside the peers, on devices that are made
# for it and removed afterwards. `make lib fio-engine` builds what it needs; only root can make the devices; without root, the cells that need one are left out.
#
# First micro.c: no-ops; the comments of limits.c, scaling.c and fairness.c describe them. Then fio, one job, 4 KiB in batches of 16 or larger ones one by one, the engines
# of a cell in turn, several rounds (matrix.py); the last lines say in how many cells we are short of our goals. In
# DIR (default: build/bench): matrix.csv and matrix.svg. --quick takes micro.c and the cells of docs/performance.md alone; --limits, limits.c alone. --ablation measures the
# effect of each heuristic instead (ablation.csv, docs/tuning.md): the library with the test hooks (make hooks-lib), with each switched off in turn.
# --before compares instead with the library of another checkout, in which `make lib fio-engine` has run.

set -u
export LC_ALL=C
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/.." && pwd)
. "$root/fio/devices.sh"
CC=${CC:-cc}
out=$root/build/bench
arguments=()
quick=0 limits=0 ablation=0
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help)
        sed -n '4,/^$/s/^# \{0,1\}//p' "$0"
        exit
        ;;
    --out)
        out=$2
        shift
        ;;
    --limits) limits=1 ;;
    --quick | --ablation)
        quick=1
        [ "$1" = --quick ] || ablation=1
        arguments+=("$1")
        ;;
    *) arguments+=("$1") ;;
    esac
    shift
done

command -v fio >/dev/null && command -v python3 >/dev/null || { echo "run.sh: needs fio and python3: make deps" >&2; exit 1; }
[ -e "$root/build/fio/aio2-engine.so" ] || { echo "run.sh: make lib fio-engine" >&2; exit 1; }
mkdir -p "$out"
TMPDIR=${DIR:-${TMPDIR:-/var/tmp}} devices_begin

program() { # NAME: builds it
    "$CC" -std=gnu11 -O2 -D_GNU_SOURCE -Wall -Wextra -I"$root/include" -o "$temp/$1" "$here/$1.c" \
        -L"$root/build/lib" -laio2 -lpthread -Wl,-rpath,"$root/build/lib" || exit 1
}

run() { # NAME [ARGUMENT...]
    in_background "$temp/$1" "${@:2}"
    [ "$status" = 0 ] || exit 1
}

# Blocks that were never written are read without the device. Half of the data can be compressed.
fill() { # FILE
    in_background fio --name=fill --filename="$1" --size=1000M --rw=write --bs=1M --ioengine=psync --buffer_compress_percentage=50 \
        --end_fsync=1 --output=/dev/null
    [ "$status" = 0 ] || exit 1
}

if [ "$ablation$limits" = 00 ]; then
    program micro
    run micro
fi

# On whatever file system $DIR is on.
files=("file=$temp/file")
if loop 1024; then files=("loop=$device" "${files[@]}"); else echo "no loop device: its cells are left out"; fi
if zram 1024; then files=("zram=$device" "${files[@]}"); else echo "no zram device: its cells are left out"; fi
targets=()
for target in "${files[@]}"; do
    fill "${target#*=}"
    targets+=(--target "$target")
done

limit() { # DEPTHS TARGET [ARGUMENT...]
    local depth target
    for target in "${files[@]}"; do
        [ "${target%%=*}" = "$2" ] || continue
        for depth in $1; do
            printf '\n%s\n' "${*:2}, depth $depth"
            run limits -r 5 -s 0.5 -d "$depth" "${@:3}" "${target#*=}"
        done
    done
}

if [ "$quick" = 0 ]; then
    program limits
    limit "1 32 128" zram
    limit 32 zram -w
    limit "8 32 128" loop
    limit "8 32 128" file
    limit 128 file -m cold
    limit "1 32" file -m hot
    [ "$limits" = 0 ] || exit 0
    program scaling
    program fairness
    echo
    run scaling "${files[0]#*=}"
    for target in "${files[@]}"; do
        printf '\n%s: ' "${target%%=*}"
        run fairness "${target#*=}"
    done
    echo
fi
in_background python3 "$here/matrix.py" --root "$root" --out "$out" "${targets[@]}" ${arguments[@]+"${arguments[@]}"}
exit "$status"
