# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=bash
# Workers announce to the device several reads that will wait for it: counted by strace, with reads_cold.c.
# needs: root

. "$SRCDIR/strace.inc"
build "$SRCDIR/engine/reads_cold.c"
# Also if they ask for what only observes.
for asks in '' timing; do
    strace -f -e trace=fadvise64 -o "$work/trace" "$work/program" ${asks:+"$asks"}
    status=$?
    [ $status = 0 ] || exit $status
    ahead=$(grep -c 'fadvise64(.*POSIX_FADV_WILLNEED) = 0' "$work/trace")
    echo "$ahead reads were told of${asks:+, with $asks}"
    [ "$ahead" -ge 100 ] || exit 1
done
