#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# build-lib.sh lib|hooks-lib: builds the library with cargo and links it. Puts the library with its links, the archive, libaio2-ffi.so and
# the replacements of libaio into build/lib, or with the test hooks into build/hooks-lib.
#
# From the environment: CC, LD, AR, OBJCOPY, CPPFLAGS, CFLAGS, LDFLAGS, RUSTFLAGS, CARGO_BUILD_TARGET, CARGO_TARGET_DIR; V=1 shows the
# commands. AIO2_RPATH is the directory where the preloaded objects find the library; empty if the system finds it. AIO2_ARCHIVE is a
# libaio2.a that cargo has already made of these sources; if it is set, cargo is not called.

set -eu
. "$(dirname "$0")/common.sh"

out=$build/$1
options=(--quiet)
[ "${V:-0}" = 0 ] || options=(--verbose)
case $1 in
lib) ;;
hooks-lib)
    cargo_archive=${cargo_archive/#"$target"/"$target/hooks"}
    target=$target/hooks
    options+=(--features test-hooks)
    ;;
*) die "unknown variant: $1" ;;
esac
map=/usr/src/aio2
# Each variable may contain several words.
read -ra cc <<<"${CC:-cc} ${CPPFLAGS:-} ${CFLAGS--O2 -g} -ffile-prefix-map=$root=$map ${LDFLAGS:-} -fuse-ld=bfd"
read -ra ld <<<"${LD:-ld.bfd}"

run() {
    [ "${V:-0}" = 0 ] || echo "$*"
    "$@"
}

# Two builds at the same time (or one make with -j) must not write the same files.
mkdir -p "$build"
exec 9>"$out.lock"
flock 9

if [ -z "${AIO2_ARCHIVE:-}" ]; then
    command -v cargo >/dev/null || die "there is no cargo: run \`make deps\`"
    # The same sources give the same bytes, independent of their folder and of cargo's folder for crates.
    RUSTFLAGS="${RUSTFLAGS:+$RUSTFLAGS }--remap-path-prefix=$root=$map"
    for crates in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/; do
        [ ! -d "$crates" ] || RUSTFLAGS+=" --remap-path-prefix=${crates%/}=$map/vendor"
    done
    export RUSTFLAGS
    run cargo build --release --locked --target-dir "$target" "${options[@]}"
    AIO2_ARCHIVE=$cargo_archive
fi

# Rust's archive has hundreds of global symbols of its standard library, which collide with those of any other Rust archive
# in the same program. So all that the exported functions need is linked into one object, in which only these functions are
# global. Section groups are resolved here: if another archive had the same group, a linker would discard ours, with
# sections to which our symbols, no longer global, are bound. No --gc-sections here: with -r, ld 2.40 writes a truncated
# .eh_frame, and the later link can do it.
#
# GNU ld makes the shared library of the same object. Cargo's shared library, linked by rustc's lld, does not have the version
# nodes of libaio's symbol table, their names and their order.
link() {
    local object=$out.tmp/aio2.o undefined=()
    # In the object, libaio2's own symbols have no version yet.
    sed -n 's/^T //p' exports.txt | sed 's/@@AIO2_0$//' >"$out.tmp/names"
    mapfile -t undefined < <(sed 's/^/--undefined=/' "$out.tmp/names")
    # After libaio's nodes: if a program asks for no version of a symbol, it gets the first node's, as from libaio.
    {
        echo "AIO2_0 {"
        exported_names | sed 's/$/;/'
        echo "};"
    } >"$out.tmp/aio2.map"
    run "${ld[@]}" -r --force-group-allocation "${undefined[@]}" -o "$object" "$AIO2_ARCHIVE"
    # Without LTO, the object has bitcode of the standard library, and an ar with LLVM's plugin aborts on it.
    run "${OBJCOPY:-objcopy}" --keep-global-symbols="$out.tmp/names" -R .llvmbc -R .llvmcmd "$object"
    # nodelete: worker threads run the library's code, which must never be unmapped.
    run "${cc[@]}" -shared -o "$out.tmp/libaio2.so.$version" "$object" -Wl,-soname,"$soname" \
        -Wl,--version-script=src/personality/libaio/versions.map,--version-script="$out.tmp/aio2.map" \
        -Wl,-z,nodelete,-z,relro,-z,now,--gc-sections,--as-needed -lgcc_s
    ln -s "libaio2.so.$version" "$out.tmp/$soname"
    ln -s "$soname" "$out.tmp/libaio2.so"
    exported_names >"$out.tmp/archive-names"
    run "${OBJCOPY:-objcopy}" --keep-global-symbols="$out.tmp/archive-names" "$object"
    # D: no times and no owners, so that the same sources give the same archive.
    run "${AR:-ar}" rcsD "$out.tmp/libaio2.a" "$object"
}

# If another compiler has new warnings, a user must still be able to build.
warnings=(-Wall -Wextra)
[ ! -e .git ] || warnings+=(-Werror)

# The header's inline functions. They are in a separate library, because a C program has its own copies of them, and libaio2.so would
# otherwise have to export them for ever.
ffi() {
    run "${cc[@]}" -std=gnu11 "${warnings[@]}" -fPIC -fexceptions -shared -Iinclude -o "$out.tmp/libaio2-ffi.so.$version" ffi/ffi.c \
        -L"$out.tmp" -Wl,--no-as-needed -laio2 -Wl,-soname,"$ffi_soname",--version-script=ffi/ffi.map,-z,relro,-z,now
    ln -s "libaio2-ffi.so.$version" "$out.tmp/$ffi_soname"
    ln -s "$ffi_soname" "$out.tmp/libaio2-ffi.so"
}

# The preloaded object, and the object that replaces libaio. They are in a separate directory, so that only a program that asks for them
# finds them. Both have the same functions. They are two files, because ldconfig would take a file with the soname libaio.so.1 for libaio.
object() { # FILE OPTION...
    local path=${AIO2_RPATH-'$ORIGIN/..'}
    run "${cc[@]}" -std=gnu11 "${warnings[@]}" -fPIC -shared -o "$out.tmp/aio2/$1" preload/*.c \
        -L"$out.tmp" -Wl,--no-as-needed -laio2 -Wl,--as-needed -ldl "${@:2}" ${path:+-Wl,--enable-new-dtags,-rpath,"$path"} \
        -Wl,--version-script=src/personality/libaio/versions.map -Wl,-z,nodelete,-z,relro,-z,now
}

# Identifies the inputs. The hash of the sources is the first line, because `make install` compares only that.
stamp=$(sources_hash && sha256sum <"$AIO2_ARCHIVE" && printf '%s\n' "${cc[*]}" "${ld[*]}" "${AR:-ar}" "${OBJCOPY:-objcopy}" "${AIO2_RPATH-}")
if [ "$stamp" != "$(cat "$out/.made-of" 2>/dev/null)" ]; then
    rm -rf "$out.tmp"
    mkdir -p "$out/aio2" "$out.tmp/aio2"
    link
    ffi
    object libaio2-preload.so
    object libaio.so.1 -Wl,-soname,libaio.so.1
    ln -s libaio.so.1 "$out.tmp/aio2/libaio.so"
    # The files are replaced, not overwritten, so that a running program keeps the old ones.
    rm -f "$out/.made-of"
    mv -f "$out.tmp"/lib* "$out"
    mv -f "$out.tmp"/aio2/* "$out/aio2"
    rm -rf "$out.tmp"
    echo "$stamp" >"$out/.made-of"
fi
