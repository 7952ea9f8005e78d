#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# install.sh install|uninstall: called by the Makefile, which passes PREFIX and the other directories in the environment. Both
# actions use one list, so uninstall removes exactly what install made, and folders that are empty then.

set -eu
. "$(dirname "$0")/common.sh"

action=$1
umask 022

case $action in
install)
    [ "$(sources_hash)" = "$(head -n 1 "$build/lib/.made-of" 2>/dev/null)" ] || die "build/lib is not of these sources: run \`make\` first"
    ;;
uninstall) ;;
*) die "usage: install.sh install|uninstall" ;;
esac

# gone FILE: removes FILE, then each parent folder that is empty now, except folders that a system has anyway.
gone() {
    local folder=$1
    [ -e "$1" ] || [ -L "$1" ] || return 0
    rm -f "$1"
    while folder=$(dirname "$folder"); do
        case $folder in
        "${DESTDIR%/}" | /usr/local/bin | /usr/local/include | /usr/local/lib | /usr/local/share | /usr/local/share/man | /usr/local | \
            "$HOME" | "$HOME/.local") return ;;
        /*/*) rmdir "$folder" 2>/dev/null || return 0 ;;
        *) return ;;
        esac
    done
}

# put MODE SOURCE DIRECTORY [NAME]
put() {
    local to=$DESTDIR$3/${4:-$(basename "$2")}
    if [ "$action" = install ]; then
        install -d "$DESTDIR$3"
        install -m "$1" "$2" "$to"
    else
        gone "$to"
    fi
}

# link TARGET DIRECTORY NAME
link() {
    local to=$DESTDIR$2/$3
    if [ "$action" = install ]; then
        install -d "$DESTDIR$2"
        ln -sfn "$1" "$to"
    else
        gone "$to"
    fi
}

pc=
run=
if [ "$action" = install ]; then
    pc=$(mktemp -d)
    run=$(mktemp)
    trap 'rm -rf "$pc" "$run"' EXIT
    # Directories under the prefix are written relative to the prefix, for `pkg-config --define-prefix`.
    for module in aio2 aio2-ffi; do
        sed -e "s|@PREFIX@|$PREFIX|" -e "s|@LIBDIR@|${LIBDIR/#"$PREFIX/"/'${prefix}/'}|" \
            -e "s|@INCLUDEDIR@|${INCLUDEDIR/#"$PREFIX/"/'${prefix}/'}|" -e "s|@VERSION@|$version|" "pkgconfig/$module.pc.in" >"$pc/$module.pc"
    done
    # Quoted twice: for single quotes in a shell script, and for sed's command.
    quoted=$(sed "s/'/'\\\\''/g; s/[&|\\]/\\\\&/g" <<<"$LIBDIR")
    sed -e "s|@LIBDIR@|$quoted|" bin/aio2-run >"$run"
fi

put 755 "$build/lib/libaio2.so.$version" "$LIBDIR"
link "libaio2.so.$version" "$LIBDIR" "$soname"
link "$soname" "$LIBDIR" libaio2.so
put 644 "$build/lib/libaio2.a" "$LIBDIR"
put 755 "$build/lib/libaio2-ffi.so.$version" "$LIBDIR"
link "libaio2-ffi.so.$version" "$LIBDIR" "$ffi_soname"
link "$ffi_soname" "$LIBDIR" libaio2-ffi.so
put 644 include/aio2.h "$INCLUDEDIR"
put 644 include/aio2/libaio.h "$INCLUDEDIR/aio2"
# Files with libaio's name go to a separate directory, so that they never replace the distribution's.
put 755 "$build/lib/aio2/libaio.so.1" "$LIBDIR/aio2"
link libaio.so.1 "$LIBDIR/aio2" libaio.so
put 755 "$build/lib/aio2/libaio2-preload.so" "$LIBDIR/aio2"
put 755 "$run" "$BINDIR" aio2-run
put 644 "$pc/aio2.pc" "$PKGCONFIGDIR"
put 644 "$pc/aio2-ffi.pc" "$PKGCONFIGDIR"
put 644 scripts/valgrind.supp "$DATADIR/aio2"

for page in man/*.[1-9]; do
    section=$MANDIR/man${page##*.}
    put 644 "$page" "$section"
    # A page that describes several functions is found under the name of each.
    for name in $(sed -n 's/^\.\\" also: //p' "$page"); do
        link "$(basename "$page")" "$section" "$name"
    done
done

# With DESTDIR, the files are only staged: the packager runs ldconfig.
if [ -n "$DESTDIR" ]; then
    echo "${action}ed in $DESTDIR, for the prefix $PREFIX"
    exit
fi
if [ "$(id -u)" = 0 ]; then
    ldconfig || true
fi
echo "${action}ed: $LIBDIR/libaio2.so.$version, libaio2.a, libaio2-ffi.so.$version, aio2/; $INCLUDEDIR/aio2.h, aio2/libaio.h; $BINDIR/aio2-run;" \
    "$PKGCONFIGDIR/aio2.pc, aio2-ffi.pc; $MANDIR; $DATADIR/aio2"
[ "$action" = install ] || exit 0
if ! ldconfig -p 2>/dev/null | grep -qF "=> $LIBDIR/$soname"; then
    if ldconfig -N -v 2>/dev/null | grep -q "^$LIBDIR:"; then
        echo "next: run ldconfig as root, so that programs find the library"
    else
        printf 'next: programs find the library with LD_LIBRARY_PATH=%q, or if they are linked with -Wl,-rpath,%q\n' "$LIBDIR" "$LIBDIR"
    fi
fi
if ! pkg-config --variable pc_path pkg-config 2>/dev/null | tr : '\n' | grep -qxF "$PKGCONFIGDIR"; then
    printf 'next: pkg-config finds it with PKG_CONFIG_PATH=%q\n' "$PKGCONFIGDIR"
fi
case :$PATH: in
*:"$BINDIR":*) ;;
*) printf 'next: the shell finds aio2-run with PATH=%q:$PATH\n' "$BINDIR" ;;
esac
echo 'then: cc program.c $(pkg-config --cflags --libs aio2), man aio2, aio2-run --help'
