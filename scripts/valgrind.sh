#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs C programs under valgrind: no invalid access, no use of undefined memory, no leak.

set -u
. "$(dirname "$0")/common.sh"

command -v valgrind >/dev/null || { echo "there is no valgrind"; exit 77; }

# Tests that use most of the library. No long ones, because valgrind runs one thread at a time.
tests="attr_all attr_big_event attr_pack attr_timing awaiting_shared call_data cancel_race cancel_wakes counters destroy_race destroyed_handle
eventfd_overflow issue overflow_large_event ring_twice submit_copied submit_malformed submit_max_requests workers_grow"
if [ "${LONG:-0}" = 0 ]; then export FEWER=10; else tests+=" overflow_both"; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Memory that is still reachable at exit is no leak: workers still exist then, and the pool and the registry are never freed.
wrapper="valgrind -q --error-exitcode=99 --leak-check=full --show-leak-kinds=definite,indirect,possible"
wrapper+=" --errors-for-leak-kinds=definite,indirect,possible --fair-sched=yes --suppressions=$root/scripts/valgrind.supp"

# A control: valgrind must find this leak, or its other results mean nothing.
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

# A stripped library, as distributions install it, a FIFO with a name, and a worker that exists at the end: the suppressions are needed, and
# enough.
cat >"$work/worker.c" <<'END'
#include <aio2.h>
#include <fcntl.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    io_context2_t ctx = NULL;
    struct iocb2 iocb;
    union { struct io_event2 event; char room[256]; } event;
    static char byte;
    int ends[2];

    if (argc != 2 || (ends[0] = open(argv[1], O_RDONLY | O_NONBLOCK)) < 0 || fcntl(ends[0], F_SETFL, 0) != 0)
        return 1;
    ends[1] = open(argv[1], O_WRONLY);
    if (ends[1] < 0 || io_setup2(IO_SETUP2_VERSION, NULL, &ctx) != 0)
        return 1;
    io_prep2_syscall(&iocb, SYS_read, (uint64_t)ends[0], (uint64_t)(uintptr_t)&byte, 1, 0, 0, 0);
    if (io_submit2(ctx, &iocb, iocb.bytes) < 0 || write(ends[1], "x", 1) != 1)
        return 1;
    return io_getevents2(ctx, 1, &event.event, sizeof(event), NULL) < 0;
}
END
mkdir "$work/stripped"
strip -o "$work/stripped/$soname" "$build/lib/$soname"
cc -std=c11 -D_GNU_SOURCE -Iinclude -o "$work/worker" "$work/worker.c" "$work/stripped/$soname" -Wl,-rpath,"$work/stripped" || exit 1
mkfifo "$work/fifo"
if $wrapper "$work/worker" "$work/fifo" >"$work/out" 2>&1 && ! ${wrapper% *} "$work/worker" "$work/fifo" >>"$work/out" 2>&1; then
    echo "ok   stripped"
    passed=$((passed + 1))
else
    echo "FAIL stripped"
    sed 's/^/     | /' "$work/out"
    failed=$((failed + 1))
fi

# -O0, so that valgrind's messages match the source. A separate directory, because the runner builds programs again if their flags
# change.
# shellcheck disable=SC2086
LIBDIR=$build/lib BUILD=$build/valgrind WRAPPER=$wrapper TIME_FACTOR=5 CFLAGS=-O0 \
    c-tests/run.sh $tests >"$work/out"
sed '$d' "$work/out"
read -r p f s <<<"$(tail -n 1 "$work/out" | sed 's/[a-z,]*//g')"
[ -n "$s" ] || die "the C tests did not run"
failed=$((failed + f))
echo "$((passed + p)) passed, $failed failed, $s skipped"
[ $failed = 0 ]
