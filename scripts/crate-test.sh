#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The Rust crate in rust/: it builds without a warning against an installed library that pkg-config finds. Runs its tests, and builds its
# documents and their examples.

set -eu
. "$(dirname "$0")/common.sh"

prefix=$build/check/crate-prefix
make --no-print-directory install PREFIX="$prefix" >/dev/null
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig LD_LIBRARY_PATH=$prefix/lib RUSTDOCFLAGS="-D warnings"
if cargo clippy --version >/dev/null 2>&1; then
    cargo clippy --quiet --locked -p aio2 --all-targets -- -D warnings
fi
cargo doc --quiet --locked -p aio2 --no-deps --target-dir "$target/crate-doc"
cargo test --locked -p aio2
