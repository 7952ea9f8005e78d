# SPDX-License-Identifier: MIT OR Apache-2.0
# Workers tell the device of several reads that it will be waited for: counted by strace, of what reads_cold.c does.

set -u
if [ "$(id -u)" != 0 ]; then
    echo "SKIPPED: needs root"
    exit 77
fi
if ! command -v strace >/dev/null || ! strace -o /dev/null true 2>/dev/null; then
    echo "SKIPPED: strace is not installed, or may not trace"
    exit 77
fi
work=$BUILD/reads_cold_calls
mkdir -p "$work"
"$CC" -std=c11 -O2 -D_GNU_SOURCE -I"$INCLUDE" -I"$SRCDIR" -o "$work/program" "$SRCDIR/reads_cold.c" -L"$LIBDIR" -Wl,-rpath,"$LIBDIR" \
    -laio2 -lpthread || exit 1
# Also if they ask for what only observes.
for asks in '' timing; do
    strace -f -e trace=fadvise64 -o "$work/trace" "$work/program" ${asks:+"$asks"}
    status=$?
    [ $status = 0 ] || exit $status
    ahead=$(grep -c 'fadvise64(.*POSIX_FADV_WILLNEED) = 0' "$work/trace")
    echo "$ahead reads were told of${asks:+, with $asks}"
    [ "$ahead" -ge 100 ] || exit 1
done
