#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# symbols.sh update: writes Debian's lists of exported symbols, debian/PACKAGE.symbols, from exports.txt and the header. A symbol keeps the
# version in which it was added; a new symbol gets the version of Cargo.toml.
# symbols.sh check: if a list does not match, shows the difference and fails.

set -eu
. "$(dirname "$0")/common.sh"

case $1 in
update | check) ;;
*) die "usage: symbols.sh update|check" ;;
esac

# list SONAME PACKAGE: writes the list for the symbols on standard input, which have the form of exports.txt.
list() {
    local file=debian/$2.symbols kind name symbol since new
    new=$(
        echo "$1 $2 #MINVER#"
        echo "* Build-Depends-Package: libaio2-dev"
        while read -r kind name; do
            case $kind in
            A) symbol=$name@$name ;;
            *) symbol=${name/@@/@} ;;
            esac
            since=$(awk -v symbol="$symbol" '$1 == symbol { print $2 }' "$file" 2>/dev/null || true)
            echo " $symbol ${since:-$version}"
        done | sort
    )
    if [ "$action" = update ]; then
        echo "$new" >"$file"
    else
        diff -u "$file" - <<<"$new" || die "$file is stale: run \`make symbols\`"
    fi
}

action=$1
grep -v '^#' exports.txt | list "$soname" libaio2-0
{
    echo "A AIO2_FFI_0"
    inline_names | sed 's/.*/T &@@AIO2_FFI_0/'
} | list "$ffi_soname" libaio2-ffi0
