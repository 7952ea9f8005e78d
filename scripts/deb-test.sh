#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Debian's packages: they are built as `make deb` does it, and lintian has no error and no warning. They are installed in a clean root. The
# README's program and a program for libaio run with them. If they are removed, nothing of them is left.

set -eu
. "$(dirname "$0")/common.sh"

command -v dh >/dev/null && command -v lintian >/dev/null || { echo "there is no debhelper, or no lintian"; exit 77; }
[ -e .git ] || { echo "this tree is of a tarball"; exit 77; }
# Optimising, the source package, and the tests that its build runs, take most of the time: only with LONG=1.
options=()
if [ "${LONG:-0}" = 0 ]; then
    export DEB_BUILD_OPTIONS=nocheck CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
    options=(-b)
fi
scripts/deb.sh "${options[@]}"
cd "$build/deb"
lintian --allow-root --fail-on error,warning ./*.changes || die "lintian finds something"

[ "$(id -u)" = 0 ] || { echo "installing in a clean root needs root"; exit 77; }
command -v mmdebstrap >/dev/null || { echo "there is no mmdebstrap"; exit 77; }
work=$(mktemp -d "${TMPDIR:-/var/tmp}/aio2-deb.XXXXXX")
trap 'rm -rf "$work"' EXIT
clean=$work/root
# The packages of the clean root are only unpacked; with LONG=1 they are installed as in a real system.
variant=extract
[ "${LONG:-0}" = 0 ] || variant=essential
mmdebstrap --quiet --variant=$variant --include=libc-bin,libgcc-s1,coreutils,grep,dash,sed "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$clean" \
    >"$work/log" 2>&1 || { cat "$work/log"; echo "a clean root cannot be made here"; exit 77; }

mkdir -p "$clean/proc" "$clean/dev"
# For the program that is linked with libaio.
cp "$(cc -print-file-name=libaio.so.1)" "$clean/usr/lib/"

# All files with their sizes, except the records of dpkg and ldconfig.
state() {
    (cd "$clean" && find . -xdev '(' -path ./var/lib/dpkg -o -path ./var/log -o -path ./var/cache/ldconfig -o -path ./etc/ld.so.cache ')' -prune -o \
        -type d -printf '%p/\n' -o -printf '%p %s\n' | sort)
}
state >"$work/before"
mapfile -t packages < <(printf '%s\n' ./*.deb | grep -v -e -dbgsym)
dpkg "--root=$clean" --force-depends -i "${packages[@]}" >"$work/log" 2>&1 || { cat "$work/log"; die "the packages cannot be installed"; }

# Compiled here with the files of the -dev package, because a compiler would make the clean root much larger.
libdir=/usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH)
export PKG_CONFIG_SYSROOT_DIR=$clean PKG_CONFIG_LIBDIR=$clean$libdir/pkgconfig PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 PKG_CONFIG_ALLOW_SYSTEM_LIBS=1
# shellcheck disable=SC2046
cc -o "$clean/first" "$root/examples/first.c" $(pkg-config --cflags --libs aio2)
cc -D_GNU_SOURCE -o "$clean/whose" "$root/compat-tests/whose.c" -laio
cp "$root/Makefile" "$clean/file"
in_clean() { # EXPECTED COMMAND...
    unshare -m sh -c 'mount -t proc proc "$0/proc" && mount --bind /dev "$0/dev" && exec chroot "$0" "$@"' "$clean" "${@:2}" >"$work/out" 2>&1 &&
        grep -q "$1" "$work/out" || die "in a clean root, \`${*:2}\` ends with $? and says: $(cat "$work/out")"
}
in_clean '^/file: read [1-9]' /first /file
# The control, then the two ways to replace libaio.
in_clean '^the kernel ' /whose
in_clean '^ours$' aio2-run /whose
in_clean '^ours$' env LD_LIBRARY_PATH="$libdir/aio2" /whose
# The tests of the packages themselves, outside the clean root.
export AUTOPKGTEST_TMP=$work/tests
mkdir "$AUTOPKGTEST_TMP"
(cd "$root" && LD_LIBRARY_PATH=$clean$libdir sh debian/tests/program) >"$work/log" 2>&1 || { cat "$work/log"; die "debian/tests/program fails"; }
if python3 -c 'import cffi' 2>/dev/null; then
    LD_LIBRARY_PATH=$clean$libdir python3 "$root/examples/first.py" "$root/Makefile" >"$work/log" 2>&1 || { cat "$work/log"; die "of libaio2-ffi0, examples/first.py fails"; }
fi
if command -v fio >/dev/null; then
    PATH=$root/bin:$PATH sh "$root/debian/tests/fio" >"$work/log" 2>&1 || { cat "$work/log"; die "debian/tests/fio fails"; }
fi
# The fio engine, from its source in the -dev package. It needs fio's source, which the step fio brings.
if command -v fio >/dev/null && [ -e "$build/fio-src/config-host.h" ]; then
    cp -r "$clean/usr/share/doc/libaio2-dev/examples/fio" "$work/fio"
    {
        make -C "$work/fio" FIO_SRC="$build/fio-src" &&
            LD_LIBRARY_PATH=$clean$libdir fio --ioengine=external:"$work/build/fio/aio2-engine.so" --name=job --filename="$work/written" --size=1M \
                --rw=randwrite --iodepth=8 --verify=crc32c
    } >"$work/log" 2>&1 || { cat "$work/log"; die "of libaio2-dev, the fio engine fails"; }
fi
rm "$clean/first" "$clean/whose" "$clean/file"
dpkg "--root=$clean" --force-depends -P libaio2-dev aio2-utils libaio2-ffi0 libaio2-0 >"$work/log" 2>&1 || { cat "$work/log"; die "the packages cannot be removed"; }
state | diff -u "$work/before" - || die "when the packages are removed, something is left"
