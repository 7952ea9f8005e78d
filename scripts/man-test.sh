#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The manual pages are formatted without a warning and name every exported function. Their examples compile and run.

set -eu
. "$(dirname "$0")/common.sh"

command -v groff >/dev/null || { echo "there is no groff"; exit 77; }
command -v mandoc >/dev/null || { echo "there is no mandoc"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mandoc -T lint man/*.[1-9] >"$work/warnings" || die "mandoc says: $(cat "$work/warnings")"
for page in man/*.[1-9]; do
    groff -t -man -ww -b -z -Tutf8 -rLL=80n "$page" 2>"$work/warnings"
    [ ! -s "$work/warnings" ] || die "$page: $(cat "$work/warnings")"
    case $page in
    man/aio2-run.1) sections="SYNOPSIS OPTIONS EXIT.STATUS EXAMPLES" ;;
    *.3) sections="SYNOPSIS RETURN.VALUE ATTRIBUTES VERSIONS EXAMPLES" ;;
    *) sections="SYNOPSIS EXAMPLES" ;;
    esac
    for section in NAME $sections DESCRIPTION SEE.ALSO; do
        grep -q "^\.SH $section$" "$page" || die "$page has no section $section"
    done
done
# If a page refers to a page of ours, that page exists.
for name in $(sed -n 's/^\.BR \(aio2[a-z_-]*\|io[a-z_]*2[a-z_]*\) (\([37]\)).*/\1.\2/p' man/*); do
    [ -e "man/$name" ] || grep -qxF ".\\\" also: $name" man/*.3 || die "a page refers to $name, which is not there"
done

for name in $(exported_names); do
    [ -e "man/$name.3" ] || grep -qxF ".\\\" also: $name.3" man/*.3 || die "no manual page describes $name"
done

for name in $(sed -n 's/^AIO2_INLINE [^(]*[ *]\([a-z0-9_]*\)(.*/\1/p' include/aio2.h); do
    grep -qxF ".\\\" also: $name.3" man/*.3 || die "no manual page describes $name"
done

# example PAGE OPTIONS...: compiles the text between .EX and .EE in EXAMPLES to $work/PAGE.
example() {
    sed -n '/^\.SH EXAMPLES/,/^\.SH/{/^\.EX/,/^\.EE/{/^\.E[XE]/d;p}}' "man/$1" |
        sed -e 's/\\e/\\/g' -e 's/\\-/-/g' -e 's/\\&//g' -e "s/\\\\(aq/'/g" >"$work/$1.c"
    [ -s "$work/$1.c" ] || die "$1 has no example"
    cc -std=c11 -D_GNU_SOURCE -Wall -Wextra -Wpedantic -Werror -o "$work/$1" "$work/$1.c" "${@:2}" || die "the example of $1 is not compiled"
}
# runs PAGE [ARGUMENT...]: runs the example; its output is in $work/out.
runs() {
    timeout 20 "$work/$1" "${@:2}" >"$work/out" || die "the example of $1 ends with $?: $(cat "$work/out")"
}
native=(-Iinclude -L"$build/lib" -laio2 -Wl,-rpath,"$build/lib")
for page in aio2.7 aio2_inline.3 io_getevents2.3 io_setup2.3 io_submit2.3 iocb_attr.7; do
    example $page "${native[@]}"
done
example aio2_libaio.7 -Iinclude/aio2 -L"$build/lib/aio2" -laio -Wl,-rpath,"$build/lib/aio2"
runs aio2.7 Makefile
cmp "$work/out" Makefile || die "the example of aio2.7 does not print the file"
runs aio2_inline.3 "$work/log"
diff <(printf '%s\n' first second) "$work/log" || die "the example of aio2_inline.3 does not write the file"
runs io_getevents2.3
diff <(printf 'request %d: 0\n' {0..9}) <(sort "$work/out") || die "the example of io_getevents2.3 does not print ten events"
runs io_setup2.3
grep -qE '^1048576 bytes of events, (not )?sealed$' "$work/out" || die "the example of io_setup2.3 prints: $(cat "$work/out")"
runs io_submit2.3
grep -qxE 'request 1: (Operation canceled|Interrupted system call)' "$work/out" || die "the example of io_submit2.3 prints: $(cat "$work/out")"
runs iocb_attr.7
grep -qxE 'thread [0-9]+, processor [0-9]+' "$work/out" || die "the example of iocb_attr.7 prints: $(cat "$work/out")"
runs aio2_libaio.7 "$work/line"
[ "$(cat "$work/line")" = "written by io_submit" ] || die "the example of aio2_libaio.7 does not write the file"
