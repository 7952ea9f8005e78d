#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# build-lib.sh lib|hooks-lib: builds the library with cargo, links it, and puts it, with its links, the archive, libaio2-ffi.so and what
# stands for libaio, into build/lib, or with the test hooks into build/hooks-lib.
#
# From the environment: CC, LD, AR, OBJCOPY, CPPFLAGS, CFLAGS, LDFLAGS, RUSTFLAGS, CARGO_BUILD_TARGET, CARGO_TARGET_DIR; V=1 shows the
# commands. AIO2_RPATH is where what is preloaded finds the library: empty, if the system knows. AIO2_ARCHIVE is a libaio2.a that cargo has
# made of these sources before: then cargo is not called.

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
# Each of them may be several words.
read -ra cc <<<"${CC:-cc} ${CPPFLAGS:-} ${CFLAGS--O2 -g} -ffile-prefix-map=$root=$map ${LDFLAGS:-} -fuse-ld=bfd"
read -ra ld <<<"${LD:-ld.bfd}"

run() {
    [ "${V:-0}" = 0 ] || echo "$*"
    "$@"
}

# Two makes at a time (or one with -j) must not write the same files.
mkdir -p "$build"
exec 9>"$out.lock"
flock 9

if [ -z "${AIO2_ARCHIVE:-}" ]; then
    command -v cargo >/dev/null || die "there is no cargo: run \`make deps\`"
    # The same sources give the same bytes, wherever they are and wherever cargo has the crates.
    RUSTFLAGS="${RUSTFLAGS:+$RUSTFLAGS }--remap-path-prefix=$root=$map"
    for crates in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/; do
        [ ! -d "$crates" ] || RUSTFLAGS+=" --remap-path-prefix=${crates%/}=$map/vendor"
    done
    export RUSTFLAGS
    run cargo build --release --locked --target-dir "$target" "${options[@]}"
    AIO2_ARCHIVE=$cargo_archive
fi

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
    # In the object libaio2's own have no version yet.
    sed -n 's/^T //p' exports.txt | sed 's/@@AIO2_0$//' >"$out.tmp/names"
    mapfile -t undefined < <(sed 's/^/--undefined=/' "$out.tmp/names")
    # Behind libaio's nodes: of several versions a program without any gets that of the first, as from libaio.
    {
        echo "AIO2_0 {"
        exported_names | sed 's/$/;/'
        echo "};"
    } >"$out.tmp/aio2.map"
    run "${ld[@]}" -r --force-group-allocation "${undefined[@]}" -o "$object" "$AIO2_ARCHIVE"
    # Without LTO there is bitcode of the standard library's in it, at which an ar with LLVM's plugin aborts.
    run "${OBJCOPY:-objcopy}" --keep-global-symbols="$out.tmp/names" -R .llvmbc -R .llvmcmd "$object"
    # nodelete: worker threads run the library's code, which must never be unmapped.
    run "${cc[@]}" -shared -o "$out.tmp/libaio2.so.$version" "$object" -Wl,-soname,"$soname" \
        -Wl,--version-script=src/personality/libaio/versions.map,--version-script="$out.tmp/aio2.map" \
        -Wl,-z,nodelete,-z,relro,-z,now,--gc-sections,--as-needed -lgcc_s
    ln -s "libaio2.so.$version" "$out.tmp/$soname"
    ln -s "$soname" "$out.tmp/libaio2.so"
    exported_names >"$out.tmp/archive-names"
    run "${OBJCOPY:-objcopy}" --keep-global-symbols="$out.tmp/archive-names" "$object"
    # D: no times and owners, so that the same source gives the same archive.
    run "${AR:-ar}" rcsD "$out.tmp/libaio2.a" "$object"
}

# Another compiler's new warning must not keep a user from building.
warnings=(-Wall -Wextra)
[ ! -e .git ] || warnings+=(-Werror)

# The header's inline functions. A library of its own: what they are is settled when a program is compiled, so that libaio2.so need not
# have them for ever.
ffi() {
    run "${cc[@]}" -std=gnu11 "${warnings[@]}" -fPIC -fexceptions -shared -Iinclude -o "$out.tmp/libaio2-ffi.so.$version" ffi/ffi.c \
        -L"$out.tmp" -Wl,--no-as-needed -laio2 -Wl,-soname,"$ffi_soname",--version-script=ffi/ffi.map,-z,relro,-z,now
    ln -s "libaio2-ffi.so.$version" "$out.tmp/$ffi_soname"
    ln -s "$ffi_soname" "$out.tmp/libaio2-ffi.so"
}

# What is preloaded, and what programs that look for libaio find: in a directory of its own, so that nobody finds it who has
# not asked for it. The same functions, under two names: as libaio.so.1, the first would be a libaio for ldconfig.
object() { # FILE OPTION...
    local path=${AIO2_RPATH-'$ORIGIN/..'}
    run "${cc[@]}" -std=gnu11 "${warnings[@]}" -fPIC -shared -o "$out.tmp/aio2/$1" preload/*.c \
        -L"$out.tmp" -Wl,--no-as-needed -laio2 -Wl,--as-needed -ldl "${@:2}" ${path:+-Wl,--enable-new-dtags,-rpath,"$path"} \
        -Wl,--version-script=src/personality/libaio/versions.map -Wl,-z,nodelete,-z,relro,-z,now
}

# Of what it was made: the sources alone first, which is all that `make install` may ask for.
stamp=$(sources_hash && sha256sum <"$AIO2_ARCHIVE" && printf '%s\n' "${cc[*]}" "${ld[*]}" "${AR:-ar}" "${OBJCOPY:-objcopy}" "${AIO2_RPATH-}")
if [ "$stamp" != "$(cat "$out/.made-of" 2>/dev/null)" ]; then
    rm -rf "$out.tmp"
    mkdir -p "$out/aio2" "$out.tmp/aio2"
    link
    ffi
    object libaio2-preload.so
    object libaio.so.1 -Wl,-soname,libaio.so.1
    ln -s libaio.so.1 "$out.tmp/aio2/libaio.so"
    # A program that runs with the old ones keeps them: replaced, not written over.
    rm -f "$out/.made-of"
    mv -f "$out.tmp"/lib* "$out"
    mv -f "$out.tmp"/aio2/* "$out/aio2"
    rm -rf "$out.tmp"
    echo "$stamp" >"$out/.made-of"
fi
