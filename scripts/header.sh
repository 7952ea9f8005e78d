#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# header.sh update: writes include/aio2.h anew from the Rust types.
# header.sh check: fails, and shows the difference, if it is not what they say.

set -eu
. "$(dirname "$0")/common.sh"

case $1 in
update)
    AIO2_UPDATE_HEADER=1 cargo build --quiet --release --locked
    ;;
check)
    # The build script leaves the generated header in its own directory, whose name has a hash in it; cargo tells it.
    out=$(cargo build --quiet --release --locked --message-format=json |
        sed -n 's/^{"reason":"build-script-executed","package_id":"[^"]*aio2[@#][^"]*".*"out_dir":"\([^"]*\)".*/\1/p')
    [ -n "$out" ] || die "cargo did not say where the generated header is"
    diff -u include/aio2.h "$out/aio2.h" || die "include/aio2.h is not what the Rust types say: run \`make header\`"
    ;;
*) die "usage: header.sh update|check" ;;
esac
