#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Shows that programs written for libaio run on ours: programs and test suites of other projects from Debian's packages (listed
# in compat-tests/packages; this script installs nothing), and programs of our own, which also run with the real libaio.
#
#     run.sh [NAME...]     runs all tests, or only these; a NAME may be a pattern ('fio-*')
#     run.sh --list        prints their names
#
# Environment:
#     LIBDIR       directory with libaio2.so.0
#     COMPATDIR    directory with our libaio.so.1
#     RUN          aio2-run; without it, LD_PRELOAD is used if that is enough
#     REAL=1       runs everything with the real libaio: shows that the tests themselves are good
#     BUILD        where programs and sources go (default: build/compat-tests)
#     LIBAIO_SRC   a source tree of libaio 0.3.113, instead of `apt-get source libaio`
#     CC           compiler (default: cc)
#     TIME_FACTOR  multiplies the time limits
#     FEWER        divides the rounds of some programs. If LONG is not 1, tests by library path or in a container always have fewer
#                  rounds, because it is the same library
#
# Prints one line for each test (ok, FAIL or SKIP, name, seconds), and below it the output of a test that did not pass. The last line
# counts. Afterwards no devices, mounts or files are left, also after Ctrl-C. Tests that need root or zram are skipped without them.

set -u
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
export CC=${CC:-cc} REAL=${REAL:-0}
BUILD=${BUILD:-$root/build/compat-tests}
mkdir -p "$BUILD" || exit 1
BUILD=$(cd "$BUILD" && pwd) || exit 1
export BUILD

# ---- The tests: name, command ----------------------------------------------------------------------

# Seconds: a test that takes longer hangs, however busy the machine is.
limit=$((2000 * ${TIME_FACTOR:-1}))
names=() commands=()
add() {
    names+=("$1")
    commands+=("${*:2}")
}

add symbols-libaio2 symbols.sh libaio2
add symbols-libaio1 symbols.sh libaio1
add header header.sh
for how in preload path; do
    add harness-part-$how harness.sh partcheck $how
    add harness-extra-$how harness.sh extracheck $how
done
for how in run path; do
    for part in api ops io limits wait cancel ring files process queue; do
        add diff-$part-$how diff.sh $how $part
    done
done
add diff-raw diff.sh run raw
add diff-raw-path diff.sh path raw
for how in preload path; do
    add reaper-$how program.sh $how reaper
    add retention-$how program.sh $how retention
    add contexts-$how program.sh $how contexts
    add forkexit-$how program.sh $how forkexit
    add threads-$how program.sh $how threads
    add closeall-$how program.sh $how closeall
    add robust-$how program.sh $how robust
    add firstuse-$how program.sh $how firstuse
    add tables-$how program.sh $how tables
    add keeper-$how program.sh $how keeper
    add churn-$how program.sh $how churn
    add manyfiles-$how program.sh $how manyfiles
    add told-$how program.sh $how told
    add reapers-$how program.sh $how reapers
    add lastwrites-$how program.sh $how lastwrites
    add forkinside-$how program.sh $how forkinside
    add ordered-$how program.sh $how ordered
    add waiting-$how program.sh $how waiting
    add memory-$how program.sh $how memory
    add descriptors-$how program.sh $how descriptors
    add filter-$how program.sh $how filter
    add sandbox-$how program.sh $how sandbox
    add signals-$how program.sh $how signals
    add filesize-$how program.sh $how filesize
    add nothread-$how program.sh $how nothread
    add laterthread-$how program.sh $how laterthread
    add statictls-$how program.sh $how statictls
    add lastthread-$how program.sh $how lastthread
    add hung-$how program.sh $how hung
    add frozen-$how program.sh $how frozen
    add realtime-$how program.sh $how realtime
    add append-$how program.sh $how append
    add pollpri-$how program.sh $how pollpri
    add promises-$how program.sh $how promises
done
# Programs with calls that only the object preloaded by aio2-run and our libaio.so.1 see.
for program in closeall dup2 lastwrites descriptors numbers sandbox promises; do
    add $program-run program.sh run $program
done
for how in object path run; do
    add mixed-$how program.sh $how mixed
    add mixed-order-$how order.sh $how
done
add lastthread-run program.sh run lastthread
for how in object path run; do
    add rights-$how program.sh $how rights
done
# In a container.
for profile in docker old; do
    for how in preload path run; do
        add container-$profile-$how container.sh $profile $how descriptors ordered memory threads closeall lastwrites killed
    done
done
add container-waiting-docker container.sh docker preload waiting retention
add container-told-docker container.sh docker path told
add container-waiting-old container.sh old path waiting
for on in ext4 zram loop; do
    for job in verify userspace_reap fsync nowait cmdprio; do
        add fio-$job-$on fio.sh $job $on
    done
done
for on in ext4 zram; do
    add qemu-io-$on qemu.sh io $on
    add qemu-bench-$on qemu.sh bench $on
done
add stress-ng stress-ng.sh
add sysbench others.sh sysbench
add stressapptest others.sh stressapptest
add mariadb others.sh mariadb
# It also makes some of its calls by syscall().
add mariadb-path others.sh mariadb path
add lvm others.sh lvm
add valgrind valgrind.sh
for how in preload path; do
    add calls-$how calls.sh $how
done
add run-help aio2-run.sh help
add run-check aio2-run.sh check
add run-stats aio2-run.sh stats
add run-routes aio2-run.sh routes
add run-inline aio2-run.sh inline
add run-transparent aio2-run.sh transparent
add run-folder aio2-run.sh folder
add run-cannot aio2-run.sh cannot
add run-planted aio2-run.sh planted

if [ "${1:-}" = --list ]; then
    printf '%s\n' "${names[@]}"
    exit 0
fi

# ---- The libraries under test -------------------------------------------------------------------------

if [ "$REAL" = 1 ]; then
    LIBDIR= COMPATDIR= RUN=
else
    : "${LIBDIR:?directory that holds libaio2.so.0}"
    LIBDIR=$(cd "$LIBDIR" && pwd) || exit 1
    if [ ! -e "$LIBDIR/libaio2.so.0" ]; then
        echo "run.sh: $LIBDIR/libaio2.so.0 is missing" >&2
        exit 1
    fi
    if [ -n "${COMPATDIR:-}" ]; then
        COMPATDIR=$(cd "$COMPATDIR" && pwd) || exit 1
    fi
    if [ -n "${RUN:-}" ] && [ -x "$RUN" ]; then
        RUN=$(cd "$(dirname "$RUN")" && pwd)/$(basename "$RUN")
    else
        RUN=
    fi
fi
export LIBDIR COMPATDIR=${COMPATDIR:-} RUN

passed=0 failed=0 skipped=0
group=
trap 'stop 129' HUP
trap 'stop 130' INT
trap 'stop 143' TERM

# The test removes its own devices, so this waits for it.
stop() {
    trap '' HUP INT TERM
    if [ -n "$group" ]; then
        kill -TERM "$group" 2>/dev/null
        wait "$group" 2>/dev/null
    fi
    exit "$1"
}

run_one() { # NUMBER
    local name=${names[$1]} command began status seconds word divisor
    local output=$BUILD/$name.out
    read -r -a command <<<"${commands[$1]}"
    began=$(date +%s%N)
    # timeout(1) leads a new process group and sends TERM to all of it. KILL follows only if a test does not end by itself.
    divisor=${FEWER:-1}
    case $name in
    *-path | container-*) [ "${LONG:-0}" != 0 ] || divisor=${FEWER:-4} ;;
    esac
    FEWER=$divisor env --default-signal=INT,QUIT timeout --kill-after=30 "$limit" bash "$here/${command[0]}" "${command[@]:1}" \
        >"$output" 2>&1 </dev/null &
    group=$!
    wait "$group"
    status=$?
    kill -KILL -- "-$group" 2>/dev/null
    group=
    seconds=$((($(date +%s%N) - began) / 100000000))
    seconds=$((seconds / 10)).$((seconds % 10))
    word=FAIL
    case $status in
    0) word=ok ;;
    77)
        if grep -q '^SKIPPED: ' "$output"; then word=SKIP; else echo "exit code 77 without a reason" >>"$output"; fi
        ;;
    124 | 137) echo "killed at the time limit of $limit s" >>"$output" ;;
    *) echo "exit code $status" >>"$output" ;;
    esac
    case $word in
    ok) passed=$((passed + 1)) ;;
    SKIP) skipped=$((skipped + 1)) ;;
    FAIL) failed=$((failed + 1)) ;;
    esac
    printf '%-4s %s %s\n' $word "$name" "$seconds"
    if [ $word = FAIL ]; then
        tail -n 60 "$output" | sed 's/^/     | /'
    elif [ $word = SKIP ]; then
        grep '^SKIPPED: ' "$output" | sed 's/^/     | /'
    fi
}

for ((i = 0; i < ${#names[@]}; i++)); do
    wanted=$#
    for pattern in "$@"; do
        # shellcheck disable=SC2053 # patterns are meant
        [[ ${names[i]} == $pattern ]] && wanted=0
    done
    [ "$wanted" = 0 ] && run_one "$i"
done
if [ $((passed + failed + skipped)) -eq 0 ]; then
    echo "run.sh: no test named $*" >&2
    exit 1
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
