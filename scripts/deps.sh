#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Installs everything that is missing for the build, the demo and the checks: Debian's packages with apt-get, and Rust if it is missing or
# too old. LONG=1 adds packages that only long checks need. If nothing is missing, does nothing and uses no network.

set -eu
. "$(dirname "$0")/common.sh"

# package=a command or file of it, or - for none. If that exists, the package is not needed.
needed="
gcc=gcc
g++=g++
clang=clang
libclang-rt-dev=-
binutils=objcopy
libc6-dev=/usr/include/stdio.h
make=make
pkg-config=pkg-config
fio=fio
valgrind=valgrind
libc6-dbg=-
dpkg-dev=dpkg-source
debhelper=dh
lintian=lintian
mmdebstrap=mmdebstrap
rpm=rpmbuild
cmake=cmake
meson=meson
libaio-dev=/usr/include/libaio.h
libaio1=-
qemu-utils=qemu-img
stress-ng=stress-ng
stressapptest=stressapptest
sysbench=sysbench
python3=python3
python3-cffi=-
e2fsprogs=mkfs.ext4
util-linux=flock
mount=losetup
kmod=modprobe
procps=ps
shellcheck=shellcheck
strace=strace
man-db=man
groff-base=groff
mandoc=mandoc
"
# Big packages, for the long checks only.
[ "${LONG:-0}" = 0 ] || needed="$needed
mariadb-server-core=mariadbd
mariadb-client-core=mariadb
rpmlint=rpmlint
"

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "this needs root, and there is no sudo: $*"
    fi
}

installed() { # PACKAGE COMMAND-OR-FILE
    if command -v dpkg-query >/dev/null &&
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; then
        return 0
    fi
    case $2 in
    -) ! command -v dpkg-query >/dev/null ;;
    /*) [ -e "$2" ] ;;
    *) command -v "$2" >/dev/null ;;
    esac
}

missing=()
for entry in $needed; do
    installed "${entry%%=*}" "${entry#*=}" || missing+=("${entry%%=*}")
done
if [ ${#missing[@]} -gt 0 ]; then
    command -v apt-get >/dev/null ||
        die "these are missing, and there is no apt-get to install them with (the names are Debian's): ${missing[*]}"
    echo "installing ${missing[*]}"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update
    # Before Debian 12 its files were in a package on which clang depends.
    if [ -z "$(apt-cache madison libclang-rt-dev)" ]; then
        for i in "${!missing[@]}"; do
            [ "${missing[i]}" != libclang-rt-dev ] || unset "missing[i]"
        done
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends "${missing[@]}" >/dev/null
fi

# ---- Rust ------------------------------------------------------------------------------------------

wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)

# Whether this version is at least the rust-version of Cargo.toml.
new_enough() {
    [ -n "$1" ] && [ "$(printf '%s\n' "$wanted" "$1" | sort -V | head -n 1)" = "$wanted" ]
}

cargo_version() {
    cargo -V 2>/dev/null | sed 's/^cargo \([0-9.]*\).*/\1/'
}

if ! new_enough "$(cargo_version)"; then
    # From Debian 13 on, the Rust of a stable release is new enough.
    candidate=
    if command -v apt-cache >/dev/null; then
        candidate=$(apt-cache policy cargo | sed -n 's/^ *Candidate: *\([0-9.]*\).*/\1/p')
    fi
    if command -v rustup >/dev/null; then
        echo "installing Rust's stable toolchain with rustup"
        rustup toolchain install stable --profile minimal --component rustfmt --component clippy
        # If there is a default, it is the user's choice and stays.
        rustup default >/dev/null 2>&1 || rustup default stable
    elif new_enough "$candidate"; then
        echo "installing Debian's Rust $candidate"
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends cargo rustfmt rust-clippy >/dev/null
    else
        echo "installing Rust with rustup, into ${CARGO_HOME:-$HOME/.cargo}: Debian's ($candidate) is older than $wanted"
        if ! command -v curl >/dev/null; then
            as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends curl ca-certificates >/dev/null
        fi
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs |
            sh -s -- -y -q --no-modify-path --profile minimal --component rustfmt --component clippy || true
        PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
        hash -r
    fi
    new_enough "$(cargo_version)" ||
        die "Rust $wanted or later is needed and could not be installed (found: $(cargo_version)): install it from" \
            "https://rustup.rs, so that \`cargo -V\` shows it, and try again"
fi
