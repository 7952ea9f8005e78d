#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# dist.sh [TO]: writes aio2-VERSION.tar.gz into build/dist, or into the folder TO. It has all that a build needs, with the crates, so the
# build needs no network. It leaves out things that only developers need: cbindgen (the header is there) and loom. It also leaves out debian/,
# because a distribution has its own.
#
# The same sources give the same bytes. All times in it are SOURCE_DATE_EPOCH, or the time of the last commit.

set -eu
. "$(dirname "$0")/common.sh"

to=${1:-$build/dist}
name=aio2-$version
command -v git >/dev/null && [ -e .git ] || die "this needs the sources as git has them: $root is no work tree"
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
mkdir -p "$to"
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
umask 022

git ls-files -z --cached --others --exclude-standard -- ':!debian' ':!.ci' |
    while IFS= read -r -d '' file; do [ ! -e "$file" ] || printf '%s\0' "$file"; done |
    tar -c --null --no-recursion -T - | { mkdir "$tree/$name" && tar -x -C "$tree/$name"; }
cd "$tree/$name"
# Each of these sections ends at the next empty line.
sed -i '/^\[target.*dependencies\]$/,/^$/d' Cargo.toml
mkdir .cargo
# This also removes crates from Cargo.lock that are not needed any more.
cargo vendor --quiet --versioned-dirs vendor
printf '[source.crates-io]\nreplace-with = "vendored"\n\n[source.vendored]\ndirectory = "vendor"\n' >.cargo/config.toml
cd ..
tar -c --format=gnu --sort=name --owner=0 --group=0 --numeric-owner --mode=u+rw,go=rX --mtime="@$epoch" "$name" | gzip -9n >"$to/$name.tar.gz.tmp"
mv "$to/$name.tar.gz.tmp" "$to/$name.tar.gz"
echo "made: ${to#"$root"/}/$name.tar.gz"
