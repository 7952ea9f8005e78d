#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# README.md is short, and links in the documents lead to files. Its program is examples/first.c, has fewer than 60 lines, compiles and
# loses no event.

set -eu
. "$(dirname "$0")/common.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The README is short, and links in all documents lead to files.
[ "$(wc -l <README.md)" -le 120 ] || die "README.md has more than 120 lines"
for document in *.md docs/*.md; do
    for link in $(grep -o '](\([^)#:]*\)[)#]' "$document" | sed 's/^](//; s/[)#]$//'); do
        [ -e "$(dirname "$document")/$link" ] || die "$document has a link to $link, which is not there"
    done
done

sed -n '/^```c$/,/^```$/{/^```/d;p}' README.md >"$work/first.c"
diff -u examples/first.c "$work/first.c" || die "the program in README.md is not examples/first.c"
[ "$(wc -l <"$work/first.c")" -lt 60 ] || die "it has 60 lines or more"
for cc in gcc clang; do
    command -v $cc >/dev/null || continue
    $cc -std=c11 -O2 -Wall -Wextra -Wpedantic -Werror -Iinclude -o "$work/first" "$work/first.c" -L"$build/lib" -laio2 \
        -Wl,-rpath,"$build/lib"
    for ((i = 0; i < 16; i++)); do
        head -c $((11 + i)) README.md >"$work/file$i"
    done
    "$work/first" "$work"/file{0..15} >"$work/out"
    [ "$(wc -l <"$work/out")" = 16 ] || die "of 16 files it prints: $(cat "$work/out")"
    for ((i = 0; i < 16; i++)); do
        grep -qx "$work/file$i: read $((11 + i)) bytes, waited [0-9]* ns, ran [1-9][0-9]* ns" "$work/out" || die "it prints: $(cat "$work/out")"
    done
    # If one request fails, the program names its file, and the other requests continue.
    if "$work/first" / "$work/file0" >"$work/out" 2>&1; then
        die "reading a directory does not fail"
    fi
    grep -qx '/: Is a directory' "$work/out" || die "reading a directory, it prints: $(cat "$work/out")"
    grep -q '/file0: read 11 bytes' "$work/out" || die "beside a directory, it prints: $(cat "$work/out")"
done
