#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# order.sh HOW: a program that makes some of its calls by syscall() (mixed.c), wherever libaio is in the order in which the dynamic linker
# looks: before libc, behind it, needed by a library of the program's, or by one that it loads later. Bound at the start, or at the first call.
. "$(dirname "$0")/common.sh" || exit 1
on_ours "$1"
check_on_ours
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags=(-std=gnu11 -O2 -D_GNU_SOURCE -Wall -Wextra -Werror)
mkdir "$work/data"
export MIXED=calls
for bound in now lazy; do
    for relro in relro norelro; do
        z=("-Wl,-z,$bound,-z,$relro")
        "$CC" "${flags[@]}" "${z[@]}" -o "$work/before" "$here/mixed.c" -laio || fail "cannot link"
        "$CC" "${flags[@]}" "${z[@]}" -o "$work/behind" "$here/mixed.c" -lc -laio || fail "cannot link"
        readelf -dW "$work/behind" | grep NEEDED | head -n 1 | grep -q 'libc\.so' || fail "libc is not first: this shows nothing"
        "$CC" "${flags[@]}" "${z[@]}" -fPIC -shared -Dmain=mixed -o "$work/libmixed.so" "$here/mixed.c" -laio || fail "cannot link"
        printf 'int mixed(int argc, char **argv);\nint main(int argc, char **argv) { return mixed(argc, argv); }\n' >"$work/main.c"
        "$CC" "${flags[@]}" "${z[@]}" -o "$work/library" "$work/main.c" "$work/libmixed.so" || fail "cannot link"
        cat >"$work/load.c" <<'END'
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    void *library = dlopen(getenv("LIBRARY"), RTLD_NOW | RTLD_LOCAL);
    int (*mixed)(int, char **) = library == NULL ? NULL : (int (*)(int, char **))dlsym(library, "mixed");

    if (mixed == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    return mixed(argc, argv);
}
END
        "$CC" "${flags[@]}" "${z[@]}" -o "$work/loaded" "$work/load.c" -ldl || fail "cannot link"
        for program in before behind library loaded; do
            LIBRARY=$work/libmixed.so ${via[@]+"${via[@]}"} "$work/$program" "$work/data" || fail "$program, bound $bound, $relro: it ends with $?"
        done
    done
done
