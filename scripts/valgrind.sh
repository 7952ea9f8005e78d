#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs C programs under valgrind: no invalid access, no use of undefined memory, no leak.

set -u
. "$(dirname "$0")/common.sh"

command -v valgrind >/dev/null || { echo "there is no valgrind"; exit 77; }

# Those that go through most of the library; not the long ones, under a tool that runs one thread at a time.
tests="attr_all attr_big_event attr_pack attr_timing call_data cancel_race cancel_wakes counters destroy_race destroyed_handle
eventfd_overflow issue overflow_large_event ring_twice submit_copied submit_malformed submit_max_requests workers_grow"
if [ "${LONG:-0}" = 0 ]; then export FEWER=10; else tests+=" overflow_both"; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What is still reachable at exit is no leak: the library's workers are still there then, and the pool and the registry are never freed.
wrapper="valgrind -q --error-exitcode=99 --leak-check=full --show-leak-kinds=definite,indirect,possible"
wrapper+=" --errors-for-leak-kinds=definite,indirect,possible --fair-sched=yes --suppressions=$root/scripts/valgrind.supp"

# A control: without it, a valgrind that finds nothing could just as well not be looking.
cat >"$work/leak.c" <<'EOF'
#include <stdlib.h>
void *volatile kept;
int main(void)
{
    kept = malloc(10);
    kept = NULL;
    return 0;
}
EOF
cc -g -o "$work/leak" "$work/leak.c" || exit 1
$wrapper "$work/leak" >"$work/out" 2>&1
[ $? = 99 ] || die "valgrind does not find a leak that is there: $(cat "$work/out")"

passed=0
failed=0
cc -std=c11 -g -Iinclude -o "$work/first" examples/first.c -L"$build/lib" -laio2 -Wl,-rpath,"$build/lib" || exit 1
if $wrapper "$work/first" Makefile >"$work/out" 2>&1; then
    echo "ok   first"
    passed=1
else
    echo "FAIL first"
    sed 's/^/     | /' "$work/out"
    failed=1
fi

# Not -O2: what valgrind says is about the program as written. Its own directory: the runner keeps programs of other flags apart by building
# them anew.
# shellcheck disable=SC2086
LIBDIR=$build/lib BUILD=$build/valgrind WRAPPER=$wrapper TIME_FACTOR=5 CFLAGS=-O0 \
    c-tests/run.sh $tests >"$work/out"
sed '$d' "$work/out"
read -r p f s <<<"$(tail -n 1 "$work/out" | sed 's/[a-z,]*//g')"
[ -n "$s" ] || die "the C tests did not run"
failed=$((failed + f))
echo "$((passed + p)) passed, $failed failed, $s skipped"
[ $failed = 0 ]
