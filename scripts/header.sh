#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# header.sh update: writes include/aio2.h anew from the Rust types.
# header.sh check: if the header does not match the Rust types, shows the difference and fails.

set -eu
. "$(dirname "$0")/common.sh"

generate() { # TO
    AIO2_UPDATE_HEADER=$1 cargo test --quiet --locked --all-features --lib header_is_current >/dev/null
}

case $1 in
update)
    generate "$root/include/aio2.h"
    ;;
check)
    mkdir -p "$build/check"
    generate "$build/check/aio2.h"
    diff -u include/aio2.h "$build/check/aio2.h" || die "include/aio2.h is not what the Rust types say: run \`make header\`"
    ;;
*) die "usage: header.sh update|check" ;;
esac
