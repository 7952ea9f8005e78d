# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=bash
# The header alone, and a program that uses all of it, compile without a warning as C11 and C++17, strict
# and with GNU extensions, under every compiler of gcc, g++, clang and clang++ that is installed; and
# the program runs, built as C and as C++.
# with any engine the same

set -eu
work=$BUILD/header_compile
rm -rf "$work"
mkdir -p "$work"
warnings=(-Wall -Wextra -Wpedantic -Werror)
libs=(-L"$LIBDIR" -Wl,-rpath,"$LIBDIR" -laio2)
tried=0
missing=

# Not through a pipe or -include: a file that a program could be.
printf '#include "aio2.h"\nint main(void) { return 0; }\n' >"$work/alone.c"
printf '#include "aio2.h"\nint main() { return 0; }\n' >"$work/alone.cc"
# Two units with the header, linked together: the inline functions must not clash.
printf '#include "aio2.h"\nint other(struct iocb2 *iocb);\nint other(struct iocb2 *iocb) { io_prep2_nop(iocb); return 0; }\n' >"$work/other.c"

try() { # LANGUAGE COMPILER FLAG...
    local language=$1 compiler=$2 suffix
    shift 2
    suffix=$([ "$language" = c ] && echo c || echo cc)
    "$compiler" "$@" "${warnings[@]}" -I"$INCLUDE" -x "$language" -c "$work/alone.$suffix" -o "$work/alone.o"
    "$compiler" "$@" "${warnings[@]}" -I"$INCLUDE" -x "$language" -c "$work/other.c" -o "$work/other.o"
    "$compiler" "$@" "${warnings[@]}" -I"$INCLUDE" -x "$language" -c "$SRCDIR/header/header.c" -o "$work/header.o"
    "$compiler" -o "$work/header" "$work/header.o" "$work/other.o" "${libs[@]}"
    "$work/header" || {
        echo "$compiler $*: the program ends with $?"
        exit 1
    }
    tried=$((tried + 1))
}

for compiler in gcc clang; do
    command -v "$compiler" >/dev/null || {
        missing="$missing $compiler"
        continue
    }
    for flags in "-std=c11" "-std=gnu11" "-std=c11 -D_GNU_SOURCE -O2" "-std=c11 -Wconversion -Wsign-conversion -Wshadow -Wcast-align -Wstrict-prototypes" "-std=gnu17 -O3"; do
        # shellcheck disable=SC2086
        try c "$compiler" $flags
    done
done
for compiler in g++ clang++; do
    command -v "$compiler" >/dev/null || {
        missing="$missing $compiler"
        continue
    }
    # C++ compilers on Linux define _GNU_SOURCE by themselves.
    for flags in "-std=c++17" "-std=c++17 -U_GNU_SOURCE" "-std=gnu++17" "-std=c++17 -O2" "-std=c++17 -Wconversion -Wsign-conversion -Wshadow -Wcast-align" "-std=c++20"; do
        # shellcheck disable=SC2086
        try c++ "$compiler" $flags
    done
done
[ -z "$missing" ] || echo "not installed:$missing"
if [ "$tried" -eq 0 ]; then
    echo "SKIPPED: none of gcc, clang, g++, clang++ is installed"
    exit 77
fi
rm -rf "$work"
