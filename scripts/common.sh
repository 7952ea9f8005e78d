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

build=$root/build
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
soname=libaio2.so.0

# libaio2's own functions of exports.txt. Those with libaio's versions are in the shared library alone.
exported_names() {
    sed -n 's/^T \(.*\)@@AIO2_0$/\1/p' exports.txt
}

die() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}
