#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# symbols.sh update: writes debian/libaio2-0.symbols anew from exports.txt. A symbol keeps the version that it came with; a new one has that of Cargo.toml.
# symbols.sh check: fails, and shows the difference, if it is not what exports.txt says.

set -eu
. "$(dirname "$0")/common.sh"

file=debian/libaio2-0.symbols

generate() {
    local kind name symbol since
    echo "$soname libaio2-0 #MINVER#"
    echo "* Build-Depends-Package: libaio2-dev"
    while read -r kind name; do
        case $kind$name in
        A*) symbol=$name@$name ;;
        *@*) symbol=${name/@@/@} ;;
        *) symbol=$name@Base ;;
        esac
        since=$(awk -v symbol="$symbol" '$1 == symbol { print $2 }' "$file" 2>/dev/null || true)
        echo " $symbol ${since:-$version}"
    done < <(grep -v '^#' exports.txt) | sort
}

case $1 in
update)
    new=$(generate)
    echo "$new" >"$file"
    ;;
check)
    generate | diff -u "$file" - || die "$file is not what exports.txt says: run \`make symbols\`"
    ;;
*) die "usage: symbols.sh update|check" ;;
esac
