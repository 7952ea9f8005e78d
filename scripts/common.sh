# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Sourced by the other scripts: where things are. Sets the working directory to the top of the tree.

export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
root=$PWD

# Where rustup puts cargo; a shell that was open when it was installed does not know.
if [ -d "${CARGO_HOME:-$HOME/.cargo}/bin" ]; then
    PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
fi
# e2fsprogs, util-linux, kmod: not on the path of every user.
PATH=$PATH:/usr/sbin:/sbin
export PATH

# Cargo's own directory, also when the caller chose another one; absolute, because cargo takes a relative one from
# its own working directory.
target=${CARGO_TARGET_DIR:-target}
case $target in
/*) ;;
*) target=$root/$target ;;
esac
# What cargo makes of the sources: scripts/build-lib.sh links the library of it, and tests that build anew begin with it (AIO2_ARCHIVE).
cargo_archive=$target${CARGO_BUILD_TARGET:+/$CARGO_BUILD_TARGET}/release/libaio2.a

build=$root/build
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
soname=libaio2.so.0
ffi_soname=libaio2-ffi.so.0

# libaio2's own functions of exports.txt. Those with libaio's versions are in the shared library alone.
exported_names() {
    sed -n 's/^T \(.*\)@@AIO2_0$/\1/p' exports.txt
}

# What libaio2-ffi.so has: the inline functions of the header.
inline_names() {
    sed -n 's/^AIO2_INLINE [^(]*[ *]\([a-z0-9_]*\)(.*/\1/p' include/aio2.h
}

# One word for the contents of all that the library is made of.
sources_hash() {
    find src preload ffi include Cargo.toml Cargo.lock build.rs exports.txt scripts/build-lib.sh -type f -print0 | sort -z |
        xargs -0 sha256sum | sha256sum
}

die() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}
