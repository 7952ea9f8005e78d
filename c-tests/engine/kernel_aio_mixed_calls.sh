# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=bash
# One io_submit(2) hands over requests of one direction only, and a thread that waits with a time limit, or only looks, hands nothing
# over: counted by strace, with kernel_aio_mixed.c.
# needs: kernel AIO
# needs: root

# Workers, too.
export AIO2_ENGINE=kaio
. "$SRCDIR/strace.inc"
build "$SRCDIR/engine/kernel_aio_mixed.c"
strace -f -e trace=io_submit -o "$work/trace" "$work/program" >"$work/threads"
status=$?
[ $status = 0 ] || exit $status
reads=$(grep -c 'io_submit(.*CMD_PREAD' "$work/trace")
writes=$(grep -c 'io_submit(.*CMD_PWRITE' "$work/trace")
mixed=$(grep -c 'io_submit(.*\(CMD_PREAD.*CMD_PWRITE\|CMD_PWRITE.*CMD_PREAD\)' "$work/trace")
echo "$reads calls hand over reads, $writes writes, $mixed both"
if [ "$reads" = 0 ] || [ "$writes" = 0 ]; then
    echo "SKIPPED: nothing waits for its device here"
    exit 77
fi
[ "$mixed" = 0 ] || exit 1
for how in "waits for a time" looks; do
    thread=$(sed -n "s/^$how: //p" "$work/threads")
    [ -n "$thread" ] || exit 1
    calls=$(grep -c "^$thread  *io_submit(" "$work/trace")
    echo "the thread that $how hands over $calls times"
    [ "$calls" = 0 ] || exit 1
done
