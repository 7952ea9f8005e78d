#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# sanitizers.sh address|thread [TEST...]: builds the library and some of c-tests/ with AddressSanitizer or
# ThreadSanitizer, and runs them. Ends with 77 if there is no nightly Rust, because -Zsanitizer needs it.
#
# Both halves use one runtime, Rust's. One process cannot have two, and clang's runtime may be older than the compiler that
# instruments the library. clang instruments the C half.
#
# The Rust standard library is the precompiled one, which is not instrumented:
# - AddressSanitizer sees all accesses of the library itself, and what the standard library allocates and frees.
# - ThreadSanitizer does not see the slow paths of the standard library, mainly the contended lock, and would report races
#   between threads that a contended mutex keeps apart. So these functions get a wrapper that tells ThreadSanitizer
#   (tsan-std.c). Their fast paths are inlined into the library and instrumented with it.

set -u
. "$(dirname "$0")/common.sh"

kind=$1
shift
case $kind in
address) runtime=asan ;;
thread) runtime=tsan ;;
*) die "usage: sanitizers.sh address|thread [TEST...]" ;;
esac

skip() {
    echo "$*"
    exit 77
}

cargo +nightly -V >/dev/null 2>&1 || skip "there is no nightly Rust (rustup toolchain install nightly --profile minimal)"
command -v clang >/dev/null || skip "there is no clang"
rust_libs=$(rustc +nightly --print target-libdir)
triple=$(rustc +nightly -vV | sed -n 's/^host: //p')
runtime_lib=$rust_libs/librustc-nightly_rt.$runtime.a
[ -e "$runtime_lib" ] || skip "this nightly Rust has no runtime for -Zsanitizer=$kind"

out=$build/$runtime
mkdir -p "$out/lib"

flags="-Zsanitizer=$kind -Cunsafe-allow-abi-mismatch=sanitizer"
if [ $kind = thread ]; then
    # The names contain a hash of the compiler.
    std_function() {
        # Not nm: if LLVM's linker plugin is installed, nm has it read the bitcode, which is too new for it.
        readelf -sW "$rust_libs"/libstd-*.rlib 2>/dev/null | awk -v name="$1" '$4 == "FUNC" && $8 ~ name { print $8; exit }'
    }
    lock=$(std_function 'sync5mutex5futex.*Mutex14lock_contended$')
    [ -n "$lock" ] || skip "this nightly Rust's mutex is another one than tsan-std.c knows"
    clang -O1 -g -fPIC -DLOCK_CONTENDED="\"$lock\"" -c -o "$out/tsan-std.o" scripts/tsan-std.c || exit 1
    flags+=" -Clink-arg=$out/tsan-std.o -Clink-arg=-Wl,--wrap=$lock"
fi

# Without LTO, so that the functions of the standard library can be wrapped. With --target, so that the flags are not used for build
# scripts.
RUSTFLAGS=$flags CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
    cargo +nightly build --quiet --release --locked --target "$triple" \
    --target-dir "$target/$runtime" >"$out/build.log" 2>&1 || {
    cat "$out/build.log"
    exit 1
}
cp "$target/$runtime/$triple/release/libaio2.so" "$out/lib/libaio2.so.0.tmp" || exit 1
mv "$out/lib/libaio2.so.0.tmp" "$out/lib/libaio2.so.0"
ln -sfn libaio2.so.0 "$out/lib/libaio2.so"

# The compiler for the runner of the C tests. The program contains the runtime, also for the library.
cat >"$out/cc" <<EOF
#!/bin/sh
exec clang -fsanitize=$kind -fno-sanitize-link-runtime -fno-omit-frame-pointer "\$@" \\
    -Wl,--whole-archive '$runtime_lib' -Wl,--no-whole-archive -rdynamic -lpthread -ldl -lm -lrt -lresolv
EOF
chmod +x "$out/cc"

# A control: if the fault of this program is not found, the other results mean nothing.
cat >"$out/control.c" <<'EOF'
#include <aio2.h>
#include <pthread.h>
#include <stdlib.h>
static int shared;
static void *race(void *arg)
{
    for (int i = 0; i < 10000; i++)
        shared++;
    return arg;
}
int main(void)
{
    /* An event written by the library into memory that was freed, and a race. */
    struct iocb2 iocb;
    struct io_event2 *event = malloc(sizeof(*event));
    pthread_t thread;
    io_prep2_nop(&iocb);
#if FAULT
    free(event);
    pthread_create(&thread, NULL, race, NULL);
    race(NULL);
    pthread_join(thread, NULL);
#else
    pthread_create(&thread, NULL, race, NULL);
    pthread_join(thread, NULL);
#endif
    ssize_t ret = io_issue2(&iocb, event, sizeof(*event));
#if !FAULT
    free(event);
#endif
    return ret == sizeof(*event) ? 0 : 1;
}
EOF
export ASAN_OPTIONS="exitcode=66:detect_leaks=1:detect_stack_use_after_return=0:abort_on_error=0${ASAN_OPTIONS:+:$ASAN_OPTIONS}"
export TSAN_OPTIONS="exitcode=66:die_after_fork=0:second_deadlock_stack=1:suppressions=$root/scripts/tsan.supp${TSAN_OPTIONS:+:$TSAN_OPTIONS}"
export LSAN_OPTIONS="exitcode=66"
for fault in 0 1; do
    "$out/cc" -std=c11 -D_GNU_SOURCE -g -O1 -DFAULT=$fault -Iinclude -o "$out/control" "$out/control.c" \
        -L"$out/lib" -laio2 -Wl,-rpath,"$out/lib" || exit 1
    "$out/control" >"$out/control.out" 2>&1
    status=$?
    case $fault,$status in
    0,0 | 1,66) ;;
    *)
        cat "$out/control.out"
        die "the control with FAULT=$fault ends with $status"
        ;;
    esac
done
grep -q "ERROR: AddressSanitizer: heap-use-after-free\|WARNING: ThreadSanitizer: heap-use-after-free" "$out/control.out" ||
    die "the fault in the library's own half was not found: $(cat "$out/control.out")"

# ---- The tests -------------------------------------------------------------------------------------

include=
case $kind in
address)
    # Left out: many_contexts, because it measures memory, and bad_buffers, because it needs addresses that stay unmapped.
    patterns="exactly_once_* overflow_* wakeup_hammer destroy_* attr_* cancel* eventfd_* corrupt_header bad_descriptors submit_* view_* handles"
    [ "${LONG:-0}" = 0 ] || forks="fork_* exit_*"
    ;;
thread)
    # Left out: corrupt_header, because it races by design, and the fork_* tests, because ThreadSanitizer does not support
    # threads in the child of a process with threads.
    patterns="exactly_once_* overflow_* wakeup_hammer destroy_* attr_timing cancel* eventfd_* workers_*"
    include="-include $root/scripts/tsan-ring.h"
    ;;
esac

names() {
    local pattern file
    for pattern in $1; do
        for file in c-tests/*/$pattern.c; do
            [ ! -e "$file" ] || basename "$file" .c
        done
    done
}

run() { # TEST...
    [ $# -gt 0 ] || skip "there are no such tests"
    [ "${LONG:-0}" != 0 ] || export FEWER=10
    CC=$out/cc CFLAGS="-O1 $include" LIBDIR=$out/lib BUILD=$out/c-tests TIME_FACTOR=5 c-tests/run.sh "$@"
}

if [ $# -gt 0 ]; then
    run "$@"
elif [ -z "${forks:-}" ]; then
    # shellcheck disable=SC2046
    run $(names "$patterns")
else
    # No search for leaks: at the end of a child it would have to stop its parent's threads.
    # shellcheck disable=SC2046
    {
        run $(names "$patterns")
        ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0 run $(names "$forks")
    } | awk '/^[0-9]+ passed, / { p += $1; f += $3; s += $5; next } { print }
        END { printf "%d passed, %d failed, %d skipped\n", p, f, s; exit f != 0 }'
fi
