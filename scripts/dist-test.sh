#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The tarball: made twice, it has the same bytes. The library is built from it for a named target, without a network and with an empty
# CARGO_HOME, and does not contain the name of its folder. With LONG=1, it is optimised, and two folders give the same bytes.

set -eu
. "$(dirname "$0")/common.sh"

[ -e .git ] || { echo "this tree is itself of a tarball"; exit 77; }
work=$(mktemp -d "${TMPDIR:-/var/tmp}/aio2-dist.XXXXXX")
trap 'rm -rf "$work"' EXIT
tarball=aio2-$version.tar.gz
scripts/dist.sh "$work/one" >/dev/null
(umask 077 && scripts/dist.sh "$work/two") >/dev/null
cmp "$work/one/$tarball" "$work/two/$tarball" || die "made twice, the tarball is not the same"
! tar -tzf "$work/one/$tarball" | grep -E 'vendor/(cbindgen|loom|windows)' || die "the tarball has crates that only developers need"

offline=(unshare -n)
[ "$(id -u)" = 0 ] || offline=(unshare -rn)
"${offline[@]}" true 2>/dev/null || { echo "a network namespace cannot be made here"; exit 77; }
# Optimising takes most of the time of a build, and a second build takes as long as the first: only with LONG=1.
quick=(CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16)
folders=(one/here)
[ "${LONG:-0}" = 0 ] || { quick=() && folders+=(two/there/deeper); }
host=$(rustc -vV | sed -n 's/^host: //p')
files="libaio2.a libaio2.so.$version libaio2-ffi.so.$version aio2/libaio.so.1 aio2/libaio2-preload.so"
for folder in "${folders[@]}"; do
    mkdir -p "$work/$folder"
    tar -xzf "$work/${folder%%/*}/$tarball" -C "$work/$folder"
    tree=$work/$folder/aio2-$version
    env -u CARGO_TARGET_DIR "${quick[@]}" CARGO_BUILD_TARGET="$host" CARGO_HOME="$work/$folder/empty" "${offline[@]}" \
        make --no-print-directory -C "$tree" >"$work/log" 2>&1 || { cat "$work/log"; die "the tarball does not build offline"; }
    [ -d "$tree/target/$host" ] || die "CARGO_BUILD_TARGET is not heeded"
    for file in $files; do
        ! grep -qF "$work" "$tree/build/lib/$file" || die "$file names the folder that it was built in"
        cmp "$tree/build/lib/$file" "$work/one/here/aio2-$version/build/lib/$file" || die "built in two folders, $file is not the same"
    done
done
nm -D --defined-only --with-symbol-versions "$tree/build/lib/libaio2.so" | sed 's/^[0-9a-f]* *//' | sort |
    diff -u <(grep -v '^#' exports.txt) - || die "built of the tarball, the library exports something else"

# rpm's spec file has this version. With LONG=1 it builds packages from cargo's archive, in which rpmlint finds no fault.
command -v rpmbuild >/dev/null || exit 0
[ "$(rpmspec -q --srpm --qf '%{version}' rpm/aio2.spec)" = "$version" ] || die "rpm/aio2.spec has another version than Cargo.toml"
[ "${LONG:-0}" != 0 ] || exit 0
AIO2_ARCHIVE=$cargo_archive rpmbuild -ba --nodeps --define "_topdir $work/rpm" --define "_sourcedir $work/one" rpm/aio2.spec >"$work/log" 2>&1 ||
    { cat "$work/log"; die "rpmbuild fails"; }
[ "$(find "$work/rpm/RPMS" -name '*.rpm' | grep -vc -e -debug)" = 4 ] || die "rpmbuild makes: $(find "$work/rpm/RPMS" -name '*.rpm')"
command -v rpmlint >/dev/null || exit 0
rpmlint -r rpm/aio2.rpmlintrc rpm/aio2.spec "$work"/rpm/SRPMS/*.rpm "$work"/rpm/RPMS/*/*.rpm >"$work/log" 2>&1 || { cat "$work/log"; die "rpmlint finds something"; }
