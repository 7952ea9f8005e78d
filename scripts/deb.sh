#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# deb.sh [OPTION...]: makes Debian's packages from the tarball and debian/, in build/deb. The options go to dpkg-buildpackage, and
# AIO2_ARCHIVE to the build (scripts/build-lib.sh).

set -eu
. "$(dirname "$0")/common.sh"

command -v dh >/dev/null || die "this needs debhelper: run \`make deps\`"
packaged=$(dpkg-parsechangelog -S Version)
[ "${packaged%-*}" = "$version" ] || die "debian/changelog has version $packaged, Cargo.toml $version"
scripts/symbols.sh check
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}

rm -rf "$build/deb"
mkdir -p "$build/deb"
scripts/dist.sh "$build/deb" >/dev/null
cd "$build/deb"
mv "aio2-$version.tar.gz" "aio2_$version.orig.tar.gz"
tar -xzf "aio2_$version.orig.tar.gz"
cp -a "$root/debian" "aio2-$version"
cd "aio2-$version"
# -d: Rust need not come from Debian's packages. cargo checks its version by Cargo.toml. debhelper's build has another HOME, in which
# rustup would find no toolchain.
[ ! -d "${HOME:-}/.rustup" ] || export RUSTUP_HOME="${RUSTUP_HOME:-$HOME/.rustup}"
env -u CARGO_TARGET_DIR -u CARGO_BUILD_TARGET dpkg-buildpackage -d -us -uc "$@" >../build.log 2>&1 || { tail -n 40 ../build.log; die "the packages cannot be built: see build/deb/build.log"; }
cd ..
rm -rf "aio2-$version"
printf 'made: %s\n' *.deb
echo "they are in build/deb; next: apt install ./build/deb/libaio2-0_*.deb ./build/deb/aio2-utils_*.deb (to compile programs also libaio2-ffi0_*.deb and libaio2-dev_*.deb)"
