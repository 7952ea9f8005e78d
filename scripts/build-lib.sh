#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# build-lib.sh lib|hooks-lib: builds the library with cargo, links it, and puts it, with its links, the archive, libaio2-ffi.so and what
# stands for libaio, into build/lib, or with the test hooks into build/hooks-lib.

set -eu
. "$(dirname "$0")/common.sh"

out=$build/$1
options=()
case $1 in
lib) ;;
hooks-lib)
    target=$target/hooks
    options=(--features test-hooks)
    ;;
*) die "unknown variant: $1" ;;
esac
command -v cargo >/dev/null || die "there is no cargo: run \`make deps\`"

# Two makes at a time (or one with -j) must not write the same files.
mkdir -p "$build"
exec 9>"$out.lock"
flock 9

cargo build --quiet --release --locked --target-dir "$target" ${options[@]+"${options[@]}"}

# Rust's archive has some hundreds of global symbols of its standard library, which collide with those of any other
# Rust archive in the same program. So: one object with everything the exported functions need, in which only they
# are global. The groups must go, because a linker that saw the same group in another archive would discard
# ours, and with it sections to which the symbols, no longer global, are bound. No --gc-sections here: with -r, ld 2.40
# writes a truncated .eh_frame, and what links the object can do it.
#
# The shared library is made of the same object, by GNU ld: cargo's, by rustc's lld, lacks of libaio's symbol table the
# names of the version nodes and which node follows which.
link() {
    local object=$out.tmp/aio2.o undefined=()
    rm -rf "$out.tmp"
    mkdir "$out.tmp"
    # In the object libaio2's own have no version yet.
    sed -n 's/^T //p' exports.txt | sed 's/@@AIO2_0$//' >"$out.tmp/names"
    mapfile -t undefined < <(sed 's/^/--undefined=/' "$out.tmp/names")
    # Behind libaio's nodes: of several versions a program without any gets that of the first, as from libaio.
    {
        echo "AIO2_0 {"
        exported_names | sed 's/$/;/'
        echo "};"
    } >"$out.tmp/aio2.map"
    ld.bfd -r --force-group-allocation "${undefined[@]}" -o "$object" "$target/release/libaio2.a"
    objcopy --keep-global-symbols="$out.tmp/names" "$object"
    # nodelete: worker threads run the library's code, which must never be unmapped.
    "${CC:-cc}" -shared -fuse-ld=bfd -o "$out.tmp/libaio2.so" "$object" \
        -Wl,-soname,"$soname" \
        -Wl,--version-script=src/personality/libaio/versions.map,--version-script="$out.tmp/aio2.map" \
        -Wl,-z,nodelete,-z,relro,-z,now,--gc-sections,--as-needed -lgcc_s
    exported_names >"$out.tmp/archive-names"
    objcopy --keep-global-symbols="$out.tmp/archive-names" "$object"
    # D: no times and owners, so that the same source gives the same archive.
    ar rcsD "$out.tmp/libaio2.a" "$object"
    # A program that runs with the old one keeps it: replaced, not written over.
    mv "$out.tmp/libaio2.a" "$out/libaio2.a"
    mv "$out.tmp/libaio2.so" "$out/libaio2.so.$version"
    rm -rf "$out.tmp"
}

mkdir -p "$out"
for input in "$target/release/libaio2.a" exports.txt src/personality/libaio/versions.map scripts/build-lib.sh; do
    if [ ! "$out/libaio2.so.$version" -nt "$input" ]; then
        link
        break
    fi
done
ln -sfn "libaio2.so.$version" "$out/$soname"
ln -sfn "$soname" "$out/libaio2.so"
# The header's inline functions. A library of its own: what they are is settled when a program is compiled, so that libaio2.so need not
# have them for ever.
ffi=$out/libaio2-ffi.so.$version
for input in ffi/* include/aio2.h scripts/build-lib.sh; do
    if [ ! "$ffi" -nt "$input" ]; then
        "${CC:-cc}" -std=gnu11 -O2 -g -fPIC -fexceptions -shared -Wall -Wextra -Werror -Iinclude -o "$ffi.tmp" ffi/ffi.c -L"$out" -laio2 \
            -Wl,-soname,libaio2-ffi.so.0,--version-script=ffi/ffi.map,-z,relro,-z,now
        mv "$ffi.tmp" "$ffi"
        break
    fi
done
ln -sfn "libaio2-ffi.so.$version" "$out/libaio2-ffi.so.0"
ln -sfn libaio2-ffi.so.0 "$out/libaio2-ffi.so"
# What is preloaded, and what programs that look for libaio find: in a directory of its own, so that nobody finds it who has
# not asked for it. The same functions, under two names: as libaio.so.1, the first would be a libaio for ldconfig.
mkdir -p "$out/aio2"
object() { # FILE OPTION...
    local to=$out/$1 input
    shift
    for input in preload/*.[ch] src/personality/libaio/versions.map scripts/build-lib.sh; do
        # A link: made by an older version.
        if [ -L "$to" ] || [ ! "$to" -nt "$input" ]; then
            "${CC:-cc}" -std=gnu11 -O2 -g -fPIC -shared -fuse-ld=bfd -Wall -Wextra -Werror -o "$to.tmp" preload/*.c \
                -L"$out" -Wl,--no-as-needed -laio2 -Wl,--as-needed -ldl "$@" -Wl,--enable-new-dtags \
                -Wl,--version-script=src/personality/libaio/versions.map -Wl,-z,nodelete,-z,relro,-z,now
            mv "$to.tmp" "$to"
            return
        fi
    done
}
# The first is also found in the directory of the second: see bin/aio2-run.
object libaio2-preload.so -Wl,-rpath,'$ORIGIN:$ORIGIN/..'
object aio2/libaio.so.1 -Wl,-soname,libaio.so.1 -Wl,-rpath,'$ORIGIN/..'
ln -sfn libaio.so.1 "$out/aio2/libaio.so"
ln -sfn ../libaio2-preload.so "$out/aio2/libaio2-preload.so"
