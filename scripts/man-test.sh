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

# The example: what stands between .EX and .EE in EXAMPLES.
sed -n '/^\.SH EXAMPLES/,/^\.SH/{/^\.EX/,/^\.EE/{/^\.E[XE]/d;p}}' man/aio2.7 |
    sed -e 's/\\e/\\/g' -e 's/\\-/-/g' -e 's/\\&//g' -e "s/\\\\(aq/'/g" >"$work/example.c"
[ -s "$work/example.c" ] || die "aio2.7 has no example"
cc -std=c11 -D_GNU_SOURCE -Wall -Wextra -Wpedantic -Werror -Iinclude -o "$work/example" "$work/example.c" \
    -L"$build/lib" -laio2 -Wl,-rpath,"$build/lib"
"$work/example" Makefile >"$work/out" || die "the example of aio2.7 fails: $(cat "$work/out")"
cmp "$work/out" Makefile || die "the example of aio2.7 does not print the file"
