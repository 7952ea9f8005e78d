# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=bash
# The header alone, and a program that uses all of it, compile without a warning from C89 to C17 and from C++11 to C++20, strict
# and with GNU extensions, with all warnings that a compiler has for that, under every compiler of gcc, g++, clang and clang++ that is
# installed; and the program runs, built as C and as C++. If a compiler makes programs of 32 bits, the header says that these cannot be.
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
printf '#include "aio2.h"\nint main(void);\nint main(void) { return 0; }\n' >"$work/alone.c"
printf '#include "aio2.h"\nint main() { return 0; }\n' >"$work/alone.cc"
# Two units with the header, linked together: the inline functions must not clash.
printf '#include "aio2.h"\nint other(struct iocb2 *iocb);\nint other(struct iocb2 *iocb) { io_prep2_nop(iocb); return 0; }\n' >"$work/other.c"

try() { # LANGUAGE COMPILER FLAG...
    local language=$1 compiler=$2 suffix source
    shift 2
    suffix=$([ "$language" = c ] && echo c || echo cc)
    for source in "$work/alone.$suffix" "$work/other.c" "$SRCDIR/header/header.c"; do
        # The program need not meet the demands on the header.
        [ "$source" != "$SRCDIR/header/header.c" ] || set -- "$@" "${program[@]}"
        "$compiler" "$@" "${warnings[@]}" -I"$INCLUDE" -x "$language" -c "$source" -o "$work/$(basename "${source%.*}").o"
    done
    tried=$((tried + 1))
}

# The same, and the program runs.
run() {
    try "$@"
    "$2" -o "$work/header" "$work/header.o" "$work/other.o" "${libs[@]}"
    "$work/header" || {
        echo "${*:2}: the program ends with $?"
        exit 1
    }
}

have() {
    command -v "$1" >/dev/null || {
        missing="$missing $1"
        return 1
    }
}

more="-Wconversion -Wsign-conversion -Wshadow -Wcast-align -Wcast-qual -Wundef -Wredundant-decls -Wformat=2"
strict="$more -Wstrict-prototypes -Wmissing-prototypes -Wdeclaration-after-statement -Wc++-compat"
pedant="$more -Wold-style-cast -Wuseless-cast -Wzero-as-null-pointer-constant"
program=()
if have gcc; then
    # shellcheck disable=SC2086
    {
        try c gcc -std=c89 $strict
        try c gcc -std=c99 $strict
        try c gcc -std=gnu17 -O3 $strict
        run c gcc -std=c11 -D_GNU_SOURCE -O2 $strict
    }
fi
# All that clang has.
program=(-Wno-zero-as-null-pointer-constant)
if have clang; then
    try c clang -std=c89 -Weverything
    try c clang -std=c99 -Weverything
    run c clang -std=c11 -O2 -Weverything
fi
program=()
# C++ compilers on Linux define _GNU_SOURCE by themselves.
if have g++; then
    # shellcheck disable=SC2086
    {
        try c++ g++ -std=c++11 $pedant
        try c++ g++ -std=c++17 -U_GNU_SOURCE $pedant
        try c++ g++ -std=gnu++17 $pedant
        run c++ g++ -std=c++20 -O2 $pedant
    }
fi
program=(-Wno-zero-as-null-pointer-constant)
if have clang++; then
    try c++ clang++ -std=c++11 -Weverything
    try c++ clang++ -std=c++17 -Weverything
    run c++ clang++ -std=c++20 -O2 -Weverything
fi

# An attribute for a plain struct iocb2, and for one with room.
cat >"$work/room.c" <<'END'
#include "aio2.h"
int main(void)
{
    struct REQUEST request;

    io_prep2_nop((struct iocb2 *)&request);
    return iocb2_add_attr((struct iocb2 *)&request, IOCB_ATTR_LINK, 0, 0, NULL, 0) != NULL;
}
END
for compiler in gcc clang; do
    command -v $compiler >/dev/null || continue
    # Older versions cannot warn.
    echo '#if !__has_attribute(__warning__)
        #error
        #endif' | "$compiler" -fsyntax-only -x c - 2>/dev/null || continue
    for request in iocb2 iocb2_room iocb2:O0 iocb2_room:O0; do
        optimize=O2
        case $request in *:O0) optimize=O0 ;; esac
        "$compiler" -$optimize -DREQUEST="${request%:O0}" -I"$INCLUDE" -L"$LIBDIR" "$work/room.c" -o "$work/room" -laio2 2>"$work/log"
        added=0
        LD_LIBRARY_PATH=$LIBDIR "$work/room" || added=1
        warned=$(grep -c 'warning: .*plain struct iocb2 has no room' "$work/log" || true)
        case $request:$added:$warned in
        iocb2:0:1 | iocb2_room:1:0) ;;
        # It does not warn for certain then, and never of room that is there.
        iocb2:O0:0:? | iocb2_room:O0:1:0) ;;
        *)
            echo "$compiler: an attribute for a struct ${request/:/ with -}: added $added, warned $warned: $(cat "$work/log")"
            exit 1
            ;;
        esac
    done
done

# The first error, whether there are system headers for such a program or not.
narrow() { # COMPILER FLAG
    if "$1" "$2" -fsyntax-only -I"$INCLUDE" "$work/alone.c" 2>"$work/log"; then
        echo "$*: compiles"
        exit 1
    fi
    grep error: "$work/log" | head -n 1 | grep -q '#\?error.*libaio2 is for Linux on x86_64' || {
        echo "$*: says $(cat "$work/log")"
        exit 1
    }
}
if [ "$(uname -m)" = x86_64 ]; then
    for compiler in gcc clang; do
        ! have $compiler || { narrow $compiler -m32 && narrow $compiler -mx32; }
    done
fi
[ -z "$missing" ] || echo "not installed:$missing"
if [ "$tried" -eq 0 ]; then
    echo "SKIPPED: none of gcc, clang, g++, clang++ is installed"
    exit 77
fi
rm -rf "$work"
