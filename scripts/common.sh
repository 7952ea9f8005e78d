# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Sourced by the other scripts: where things are. Sets the working directory to the top of the tree.

export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
root=$PWD

# rustup puts cargo here. A shell that was already open does not know the directory.
if [ -d "${CARGO_HOME:-$HOME/.cargo}/bin" ]; then
    PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
fi
# The directories of e2fsprogs, util-linux and kmod, which not every user has in PATH.
PATH=$PATH:/usr/sbin:/sbin
export PATH

# Cargo's target directory, also if the caller chose another one. It is absolute, because cargo takes a relative path from its
# own working directory.
target=${CARGO_TARGET_DIR:-target}
case $target in
/*) ;;
*) target=$root/$target ;;
esac
# The archive that cargo makes. scripts/build-lib.sh links the library from it, and tests that build again begin with it (AIO2_ARCHIVE).
cargo_archive=$target${CARGO_BUILD_TARGET:+/$CARGO_BUILD_TARGET}/release/libaio2.a

build=$root/build
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
soname=libaio2.so.0
ffi_soname=libaio2-ffi.so.0

# libaio2's own functions in exports.txt. Functions with libaio's versions are only in the shared library.
exported_names() {
    sed -n 's/^T \(.*\)@@AIO2_0$/\1/p' exports.txt
}

# The functions of libaio2-ffi.so: the inline functions of the header.
inline_names() {
    sed -n 's/^AIO2_INLINE [^(]*[ *]\([a-z0-9_]*\)(.*/\1/p' include/aio2.h
}

# A hash of all sources of the library.
sources_hash() {
    find src preload ffi include Cargo.toml Cargo.lock build.rs exports.txt scripts/build-lib.sh -type f -print0 | sort -z |
        xargs -0 sha256sum | sha256sum
}

die() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}
