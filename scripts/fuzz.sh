#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# fuzz.sh [SECONDS [CORPUS]]: runs the fuzz target of fuzz/ for SECONDS (default: 20). Its library makes no system calls for requests.
# Inputs that are worth keeping stay in CORPUS (default: build/fuzz/corpus). Ends with 77 if there is no nightly Rust, which records the
# coverage, or no clang, which has libFuzzer.

set -u
. "$(dirname "$0")/common.sh"
seconds=${1:-20}
out=$build/fuzz
corpus=${2:-$out/corpus}

skip() {
    echo "$*"
    exit 77
}

cargo +nightly -V >/dev/null 2>&1 || skip "there is no nightly Rust (rustup toolchain install nightly --profile minimal)"
command -v clang >/dev/null || skip "there is no clang"
mkdir -p "$corpus"
triple=$(rustc +nightly -vV | sed -n 's/^host: //p')
flags="--cfg aio2_fuzz -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
flags+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
# With debug assertions and overflow checks, because these are the faults that are looked for.
RUSTFLAGS=$flags CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true \
    cargo +nightly build --quiet --release --locked --target "$triple" --target-dir "$target/fuzz" >"$out/build.log" 2>&1 || {
    cat "$out/build.log"
    exit 1
}
clang -g -O1 -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -fsanitize=fuzzer -I"$root/include" -o "$out/submit" "$root/fuzz/submit.c" \
    "$target/fuzz/$triple/release/libaio2.a" -lpthread -ldl -lgcc_s >"$out/link.log" 2>&1 || {
    grep -q 'clang_rt.fuzzer\|libclang_rt' "$out/link.log" && skip "this clang has no libFuzzer"
    cat "$out/link.log"
    exit 1
}
cd "$out" || exit 1
./submit -max_total_time="$seconds" -timeout=20 -max_len=2048 -print_final_stats=1 -verbosity=1 "$corpus" >run.log 2>&1
status=$?
grep -v '^#[0-9]*	\(NEW\|REDUCE\|pulse\|RELOAD\)' run.log | tail -n 25
exit $status
