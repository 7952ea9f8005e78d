#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The manual pages are formatted without a warning, name every exported function, and what they show compiles and runs.

set -eu
. "$(dirname "$0")/common.sh"

command -v groff >/dev/null || { echo "there is no groff"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for page in man/*.[1-9]; do
    groff -man -ww -b -z -Tutf8 -rLL=80n "$page" 2>"$work/warnings"
    [ ! -s "$work/warnings" ] || die "$page: $(cat "$work/warnings")"
done

for name in $(exported_names); do
    [ -e "man/$name.3" ] || grep -qxF ".\\\" also: $name.3" man/*.3 || die "no manual page describes $name"
done

for name in $(sed -n 's/^AIO2_INLINE [^(]*[ *]\([a-z0-9_]*\)(.*/\1/p' include/aio2.h); do
    grep -qxF ".\\\" also: $name.3" man/*.3 || die "no manual page describes $name"
done

# The examples: what stands between .EX and .EE in EXAMPLES.
for page in aio2.7 aio2_inline.3; do
    sed -n '/^\.SH EXAMPLES/,/^\.SH/{/^\.EX/,/^\.EE/{/^\.E[XE]/d;p}}' "man/$page" |
        sed -e 's/\\e/\\/g' -e 's/\\-/-/g' -e 's/\\&//g' -e "s/\\\\(aq/'/g" >"$work/$page.c"
    [ -s "$work/$page.c" ] || die "$page has no example"
    cc -std=c11 -D_GNU_SOURCE -Wall -Wextra -Wpedantic -Werror -Iinclude -o "$work/$page.program" "$work/$page.c" \
        -L"$build/lib" -laio2 -Wl,-rpath,"$build/lib"
done
"$work/aio2.7.program" Makefile >"$work/out" || die "the example of aio2.7 fails: $(cat "$work/out")"
cmp "$work/out" Makefile || die "the example of aio2.7 does not print the file"
timeout 20 "$work/aio2_inline.3.program" "$work/log" || die "the example of aio2_inline.3 fails"
diff <(printf '%s\n' first second) "$work/log" || die "the example of aio2_inline.3 does not write the file"
