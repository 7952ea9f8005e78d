#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# check.sh [STEP...]: runs every step, or only these. The step core, a few of the C tests, runs only if it is named. The last line counts:
# N passed, N failed, N skipped.
#
# A step is a function below, run as a process of its own with a time limit. It ends with 0 (passed), 77 (skipped: the
# last line that it printed says why) or anything else (failed). If a step runs several tests, its last line is
# "N passed, N failed, N skipped", and these tests are counted instead of the step. The output of a step goes to
# build/check/STEP.log, and, if it failed, to the terminal.
#
# LONG=1 adds tests that take longer.

set -u
. "$(dirname "$0")/common.sh"

export LONG=${LONG:-0}
# Seconds: a step that takes longer hangs, however busy the machine is.
limit=6000
[ "$LONG" = 0 ] || limit=36000

# Steps. The first is needed by all others. Then rows of steps run side by side: steps that mostly compile, steps whose tests run slowed
# down, steps that wait for devices, and steps that run programs of others.
first="
lib
"
compiling="
fmt
shellcheck
clippy
layers
unit
header
crate
loom
fuzz
harness
"
slowed="
valgrind
asan
tsan
c-tests-threads
c-tests-kaio
"
waiting="
exports
${1:+core}
elf
archive
man
readme
examples
install
dist
deb
c-tests
"
others="
fio
compat
"

skip() {
    echo "$*"
    exit 77
}

# ---- The steps -------------------------------------------------------------------------------------

step_lib() {
    set -e
    scripts/build-lib.sh lib
    scripts/build-lib.sh hooks-lib
}

step_fmt() {
    cargo fmt --version >/dev/null 2>&1 || skip "there is no cargo fmt (rustup component add rustfmt)"
    cargo fmt --all --check -- --color never
}

step_shellcheck() {
    command -v shellcheck >/dev/null || skip "there is no shellcheck"
    grep -rlZE '^#!/bin/(ba)?sh|^# shellcheck shell=' --exclude-dir={.git,build,target} . | xargs -0 shellcheck -S warning
}

step_clippy() {
    cargo clippy --version >/dev/null 2>&1 || skip "there is no cargo clippy (rustup component add clippy)"
    set -e
    cargo clippy --quiet --locked --all-targets -- -D warnings
    cargo clippy --quiet --locked --all-targets --all-features -- -D warnings
}

step_layers() {
    command -v python3 >/dev/null || skip "there is no python3"
    scripts/layers.py
}

# Adds up the results that the test harness prints for each program.
count_rust_tests() {
    sed -n 's/^test result: .*\. \([0-9]*\) passed; \([0-9]*\) failed; \([0-9]*\) ignored.*/\1 \2 \3/p' "$1" |
        awk '{ p += $1; f += $2; s += $3 } END { printf "%d passed, %d failed, %d skipped\n", p, f, s; exit p + f == 0 }'
}

step_unit() {
    local out=$build/check/unit.out status=0
    grep -rq '#\[test\]' src || skip "there are no unit tests"
    cargo test --quiet --locked --all-features >"$out" 2>&1 || status=$?
    cat "$out"
    count_rust_tests "$out" || { echo "no test ran"; exit 1; }
    exit $status
}

step_header() {
    scripts/header.sh check
}

# The Rust crate.
step_crate() {
    local out=$build/check/crate.out status=0
    scripts/crate-test.sh >"$out" 2>&1 || status=$?
    cat "$out"
    [ $status = 0 ] || exit $status
    count_rust_tests "$out" || { echo "no test ran"; exit 1; }
}

step_exports() {
    set -e
    nm -D --defined-only --with-symbol-versions "$build/lib/libaio2.so" | sed 's/^[0-9a-f]* *//' | sort >"$build/check/exports"
    grep -v '^#' exports.txt | diff -u - "$build/check/exports"
    # All inline functions of the header, and nothing else.
    inline_names | sed 's/.*/T &@@AIO2_FFI_0/' | sort |
        diff - <(nm -D --defined-only --with-symbol-versions "$build/lib/libaio2-ffi.so" | sed -n 's/^[0-9a-f]* T/T/p' | sort)
    # The hooks are read from the environment: they add no symbol.
    nm -D --defined-only --with-symbol-versions "$build/hooks-lib/libaio2.so" | sed 's/^[0-9a-f]* *//' | sort |
        diff -u "$build/check/exports" -
    # The installed library contains no hooks.
    ! grep -q AIO2_HOOK "$build/lib/libaio2.so" || die "the library has test hooks"
}

step_elf() {
    set -e
    local dynamic object
    dynamic=$(readelf -dW "$build/lib/libaio2.so")
    grep -q "SONAME.*\[$soname\]" <<<"$dynamic" || die "the soname is not $soname"
    grep -q 'FLAGS_1.*NODELETE' <<<"$dynamic" || die "dlclose() can unload it under its threads: no NODELETE"
    grep -q 'BIND_NOW' <<<"$dynamic" || die "not linked with -z now"
    ! grep -q TEXTREL <<<"$dynamic" || die "it has text relocations"
    readelf -lW "$build/lib/libaio2.so" | grep -q 'GNU_STACK.* RW ' || die "it asks for an executable stack"
    # The libraries of every C program, and the unwinder for Rust's panic messages.
    diff -u <(printf '%s\n' ld-linux libc libgcc_s) \
        <(sed -n 's/.*(NEEDED).*\[\(ld-linux\|[^.]*\).*\]$/\1/p' <<<"$dynamic" | sort) || die "it needs other libraries"

    # The preloaded object and the replacement of libaio: they differ only in name.
    for object in aio2/libaio2-preload.so aio2/libaio.so.1; do
        dynamic=$(readelf -dW "$build/lib/$object")
        grep -q 'FLAGS_1.*NODELETE' <<<"$dynamic" || die "$object: no NODELETE"
        grep -q 'BIND_NOW' <<<"$dynamic" || die "$object: not linked with -z now"
        ! grep -q TEXTREL <<<"$dynamic" || die "$object has text relocations"
        readelf -lW "$build/lib/$object" | grep -q 'GNU_STACK.* RW ' || die "$object asks for an executable stack"
        grep -q "NEEDED.*\[$soname\]" <<<"$dynamic" || die "$object does not need $soname"
    done
    grep -q 'SONAME.*\[libaio.so.1\]' <<<"$dynamic" || die "the soname of $object is not libaio.so.1"
    # If it had one, ldconfig would make a link libaio.so.1 to it, in place of the distribution's libaio.
    ! readelf -dW "$build/lib/aio2/libaio2-preload.so" | grep SONAME || die "libaio2-preload.so has a soname"
    diff -u <(nm -D --with-symbol-versions "$build/lib/aio2/libaio2-preload.so" | sed 's/^[0-9a-f]* *//' | sort) \
        <(nm -D --with-symbol-versions "$build/lib/aio2/libaio.so.1" | sed 's/^[0-9a-f]* *//' | sort) ||
        die "libaio2-preload.so and libaio.so.1 have different symbols"
}

# compat_tests WHERE NAME...: as c_tests.
compat_tests() {
    [ -x compat-tests/run.sh ] || skip "there are no tests of compatibility"
    LIBDIR=$build/lib COMPATDIR=$build/lib/aio2 RUN=$root/bin/aio2-run BUILD=$build/$1 compat-tests/run.sh "${@:2}"
}

# Programs and test suites of others, with the library in libaio's place.
step_compat() {
    local names
    mapfile -t names < <(compat-tests/run.sh --list | grep -v '^harness-')
    compat_tests compat-tests "${names[@]}"
}

# libaio's own suite, which takes long.
step_harness() {
    compat_tests harness 'harness-*'
}

step_archive() {
    scripts/archive-test.sh
}

step_man() {
    scripts/man-test.sh
}

step_readme() {
    scripts/readme-test.sh
}

step_examples() {
    scripts/examples-test.sh
}

step_install() {
    scripts/install-test.sh
}

step_dist() {
    scripts/dist-test.sh
}

step_deb() {
    scripts/deb-test.sh
}

# c_tests WHERE [NAME...]: all C tests, or only these.
c_tests() {
    [ -x c-tests/run.sh ] || skip "there are no C tests"
    LIBDIR=$build/lib HOOKS_LIBDIR=$build/hooks-lib BUILD=$build/$1 PROGRAMS=$build/c-tests c-tests/run.sh "${@:2}"
}

step_c-tests() {
    c_tests c-tests
}

# All C tests once more, carried out by worker threads alone.
step_c-tests-threads() {
    [ "$LONG" != 0 ] || export FEWER=4
    AIO2_ENGINE=threads c_tests c-tests-threads
}

# C tests that depend on the kernel's AIO, once more without io_uring.
step_c-tests-kaio() {
    AIO2_ENGINE=kaio c_tests c-tests-kaio doorbell_closed filter_inflight kernel_aio file_runs attr_route no_descriptors fork_raw_descriptors
}

# A few C tests for `make check-quick`: one of each kind, each of them fast.
step_core() {
    c_tests c-tests sizes header setup_null errnos handles \
        exactly_once_nop exactly_once_read random_order getevents_min cancel cancel_running drain link overflow_both \
        attr_all attr_timing kernel_aio destroy_inflight exit_writes fork_raw file_runs wakeup_handover hook_panic
}

# The models need loom's types in place of the standard library's, and so a separate build. Each model says how far it goes.
step_loom() {
    local out=$build/check/loom.out status=0
    export RUSTFLAGS="--cfg loom"
    grep -rq 'fn loom_' src || skip "there are no loom models"
    # One model at a time, because the models' workers are in a static variable.
    cargo test --quiet --profile loom --locked --lib --target-dir "$target/loom" -- loom --test-threads=1 >"$out" 2>&1 || status=$?
    cat "$out"
    count_rust_tests "$out" || { echo "no model ran"; exit 1; }
    exit $status
}

step_valgrind() {
    scripts/valgrind.sh
}

step_asan() {
    scripts/sanitizers.sh address
}

step_tsan() {
    scripts/sanitizers.sh thread
}

step_fuzz() {
    scripts/fuzz.sh
}

step_fio() {
    [ -x fio/test.sh ] || skip "there is no fio/test.sh"
    fio/test.sh
}

# ---- Running them ----------------------------------------------------------------------------------

if [ "${1:-}" = --step ]; then
    mkdir -p "$build/check"
    "step_$2"
    exit
fi

# Sets `used` to the seconds of processor time of this row's steps so far.
get_used() {
    local file=$build/check/times.$BASHPID
    times >"$file" # not through a pipe: a subshell has none of it
    used=$(awk 'END { for (i = 1; i <= NF; i++) { split($i, t, /[ms]/); n += t[1] * 60 + t[2] } printf "%d", n }' "$file")
    rm -f "$file"
}

group=
run() { # STEP
    local log=$build/check/$1.log began=$SECONDS status counts took used before
    get_used
    before=$used
    # timeout(1) leads a new process group, so the trap above and timeout(1) itself end all processes of the step.
    timeout --kill-after=20 "$limit" "$0" --step "$1" >"$log" 2>&1 </dev/null &
    group=$!
    wait "$group"
    status=$?
    group=
    get_used
    took="($((SECONDS - began)) s, $((used - before)) s of processor time)"
    counts=$(tail -n 1 "$log" | sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed, \([0-9]*\) skipped$/\1 \2 \3/p')
    if [ $status = 124 ] || [ $status = 137 ]; then
        echo "ended at the time limit of $limit s" >>"$log"
        counts=
    fi
    report "$1" "$log" "$status" "$took" $counts >"$build/check/$1.report"
    status=$?
    # Printed in one piece, because the other rows print, too.
    cat "$build/check/$1.report"
    return $status
}

# Prints the result of a step, and counts it.
report() { # STEP LOG STATUS TOOK [PASSED FAILED SKIPPED]
    local step=$1 log=$2 status=$3 took=$4 counts=
    shift 4
    if [ $# != 0 ]; then
        # If a step fails and none of its tests did, the step itself has failed.
        [ "$status" = 0 ] || [ "$2" != 0 ] || set -- "$1" 1 "$3"
        [ "$2" = 0 ] || status=1
        counts=": $1 passed, $2 failed, $3 skipped"
    else
        case $status in
        0) set -- 1 0 0 ;;
        77) set -- 0 0 1 ;;
        *) set -- 0 1 0 ;;
        esac
    fi
    echo "$*" >>"$build/check/counts"
    case $status in
    0)
        echo "ok   $step$counts $took"
        # Only the skipped tests are listed, with the reason.
        grep -A 1 '^SKIP' "$log" | grep -v '^--$' | sed 's/^/     /'
        ;;
    77)
        echo "SKIP $step: $(tail -n 1 "$log")"
        ;;
    *)
        echo "FAIL $step$counts $took; all of it is in ${log#"$root"/}"
        # A log of many tests: prints the failed tests with their output.
        if [ -n "$counts" ] && grep -q '^FAIL' "$log"; then
            awk '/^FAIL/ { show = 1; print; next } /^[^ ]/ { show = 0 } show' "$log" | head -n 200 | sed 's/^/     /'
        else
            # Prints the beginning, which has the first error, and the end, which has the result.
            awk 'NR <= 20 { print; next } { last[NR % 30] = $0 }
                END { if (NR > 50) print "..."; for (i = NR > 50 ? NR - 29 : 21; i <= NR; i++) print last[i % 30] }' "$log" |
                sed 's/^/     /'
        fi
        ;;
    esac
    return "$status"
}

wanted=" $* "
# Runs those of these steps that are wanted. False if one failed.
row() { # STEP...
    local step result=0
    trap '[ -z "$group" ] || kill -TERM -- "-$group" 2>/dev/null; wait; exit 130' INT TERM
    for step; do
        case $wanted in
        "  " | *" $step "*) run "$step" || result=1 ;;
        esac
    done
    return $result
}

mkdir -p "$build/check"
: >"$build/check/counts"
# shellcheck disable=SC2086
if row $first; then
    row $compiling &
    rows=$!
    row $slowed &
    rows="$rows $!"
    row $waiting &
    rows="$rows $!"
    row $others &
    rows="$rows $!"
    trap 'kill $rows 2>/dev/null; wait; exit 130' INT TERM
    wait
else
    echo "     without a library there is nothing more to check"
fi
awk '{ p += $1; f += $2; s += $3 } END { printf "%d passed, %d failed, %d skipped\n", p, f, s; exit f != 0 || p + s == 0 }' \
    "$build/check/counts"
