# SPDX-License-Identifier: MIT OR Apache-2.0
# time limit: 240 s
# Under valgrind the library reads and writes only memory that is there, and leaks nothing: a choice of the other tests.

set -u
tests="attr_pack attr_all attr_big_event cancel cancel_race cancel_wakes counters eventfd_overflow issue submit_copied
submit_malformed submit_max_requests workers_grow"

if ! command -v valgrind >/dev/null; then
    echo "SKIPPED: valgrind is not installed"
    exit 77
fi
work=$BUILD/valgrind
mkdir -p "$work"
failed=0
for name in $tests; do
    # Not -O2: what valgrind says is about the program as written.
    "$CC" -std=c11 -O0 -g -D_GNU_SOURCE -I"$INCLUDE" -I"$SRCDIR" -o "$work/$name" "$SRCDIR"/*/"$name.c" \
        -L"$LIBDIR" -Wl,-rpath,"$LIBDIR" -laio2 -lpthread || exit 1
    # 77: the test skips itself, which is no failure of this one.
    TEST_TIME_LIMIT=200 valgrind -q --error-exitcode=99 --fair-sched=yes --leak-check=full \
        --errors-for-leak-kinds=definite,indirect,possible --suppressions="$SRCDIR/resources/valgrind.supp" "$work/$name"
    status=$?
    if [ "$status" -ne 0 ] && [ "$status" -ne 77 ]; then
        echo "$name: exit code $status under valgrind"
        failed=1
    fi
done
rm -rf "$work"
exit $failed
