#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# header.sh: our libaio.h says the same as the real one: sizes, offsets, constants, prototypes and what the inline
# functions write; programs compile with it in C and C++, with warnings on; libaio's own tests do as well.
. "$(dirname "$0")/common.sh" || exit 1
need "$CC"
ours=${LIBAIO_H:-$root/include/aio2}
[ -e "$ours/libaio.h" ] || skip "there is no $ours/libaio.h"
[ "$REAL" != 1 ] || ours=/usr/include
work=$BUILD/header
rm -rf "$work"
mkdir -p "$work"
flags=(-std=gnu11 -O2 -Wall -Wextra -Werror -D_GNU_SOURCE)
"$CC" "${flags[@]}" -o "$work/real" "$here/header.c" || fail "header.c cannot be compiled with the real header"
"$CC" "${flags[@]}" -I"$ours" -o "$work/ours" "$here/header.c" || fail "header.c cannot be compiled with $ours/libaio.h"
"$work/real" >"$work/real.out" || fail "with the real header it fails"
"$work/ours" >"$work/ours.out" || fail "with ours it fails"
diff "$work/real.out" "$work/ours.out" || fail "the headers differ (< real, > ours)"
echo '#include <libaio.h>
#include <libaio.h>
int main() { io_context_t ctx = 0; return io_setup(1, &ctx) == 0 ? 0 : 1; }' >"$work/one.cc"
strict=()
[ "$REAL" = 1 ] || strict=(-pedantic -Wconversion -Wsign-conversion)
standards=(gnu99 gnu11 gnu17)
[ "$REAL" = 1 ] || standards+=(c89 c99 c11 c17)
for standard in "${standards[@]}"; do
    "$CC" -std=$standard -xc -Wall -Wextra -Werror ${strict[@]+"${strict[@]}"} -I"$ours" -c -o /dev/null "$work/one.cc" || fail "not with -std=$standard"
done
cxx=${CXX:-c++}
if command -v "$cxx" >/dev/null; then
    "$cxx" -std=c++11 -Wall -Wextra -Werror -I"$ours" -c -o "$work/one.o" "$work/one.cc" || fail "not as C++"
fi
for source in diff reaper; do
    "$CC" "${flags[@]}" -I"$ours" -c -o "$work/$source.o" "$here/$source.c" || fail "$source.c does not compile with it"
done
# Linked by its name with the library that is there.
if [ "$REAL" != 1 ] && [ -n "$COMPATDIR" ]; then
    "$CC" "${flags[@]}" -I"$ours" -o "$work/linked" "$here/whose.c" "$COMPATDIR/libaio.so.1" || fail "cannot link with libaio.so.1"
    out=$(LD_LIBRARY_PATH=$COMPATDIR:$LIBDIR "$work/linked") || fail "linked with ours it does not run"
    [ "$out" = ours ] || fail "linked with ours it uses $out"
    # As docs/libaio.md says; then also a program that makes some of its calls by syscall() needs no more.
    for program in whose mixed; do
        "$CC" "${flags[@]}" -I"$ours" -o "$work/$program" "$here/$program.c" -L"$COMPATDIR" -laio -Wl,-rpath,"$COMPATDIR" ||
            fail "cannot link $program with -laio"
    done
    [ "$("$work/whose")" = ours ] || fail "linked with our -laio it uses $("$work/whose")"
    mkdir "$work/data"
    "$work/mixed" "$work/data" || fail "linked with our -laio, a program that makes calls by syscall() fails"
fi
