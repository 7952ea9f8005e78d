#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# install.sh install|uninstall: called by the Makefile, which gives PREFIX and the rest in the environment. One list
# for both, so that uninstall removes just what install made.

set -eu
. "$(dirname "$0")/common.sh"

action=$1
umask 022

# put MODE SOURCE DIRECTORY [NAME]
put() {
    local to=$DESTDIR$3/${4:-$(basename "$2")}
    if [ "$action" = install ]; then
        install -d "$DESTDIR$3"
        install -m "$1" "$2" "$to"
    else
        rm -f "$to"
    fi
}

# link TARGET DIRECTORY NAME
link() {
    local to=$DESTDIR$2/$3
    if [ "$action" = install ]; then
        install -d "$DESTDIR$2"
        ln -sfn "$1" "$to"
    else
        rm -f "$to"
    fi
}

case $action in
install)
    pc=$(mktemp -d)
    run=$(mktemp)
    trap 'rm -rf "$pc" "$run"' EXIT
    # Directories under the prefix are written relative to it, for `pkg-config --define-prefix`.
    for module in aio2 aio2-ffi; do
        sed -e "s|@PREFIX@|$PREFIX|" -e "s|@LIBDIR@|${LIBDIR/#"$PREFIX/"/'${prefix}/'}|" \
            -e "s|@INCLUDEDIR@|${INCLUDEDIR/#"$PREFIX/"/'${prefix}/'}|" -e "s|@VERSION@|$version|" "pkgconfig/$module.pc.in" >"$pc/$module.pc"
    done
    # Between quotes in a shell script, and in sed's command.
    quoted=$(sed "s/'/'\\\\''/g; s/[&|\\]/\\\\&/g" <<<"$LIBDIR")
    sed -e "s|@LIBDIR@|$quoted|" bin/aio2-run >"$run"
    ;;
uninstall)
    pc=
    run=
    ;;
*) die "usage: install.sh install|uninstall" ;;
esac

put 755 "$build/lib/libaio2.so.$version" "$LIBDIR"
link "libaio2.so.$version" "$LIBDIR" "$soname"
link "$soname" "$LIBDIR" libaio2.so
put 644 "$build/lib/libaio2.a" "$LIBDIR"
put 755 "$build/lib/libaio2-ffi.so.$version" "$LIBDIR"
link "libaio2-ffi.so.$version" "$LIBDIR" libaio2-ffi.so.0
link libaio2-ffi.so.0 "$LIBDIR" libaio2-ffi.so
put 644 include/aio2.h "$INCLUDEDIR"
put 644 include/aio2/libaio.h "$INCLUDEDIR/aio2"
# libaio's name in a directory of its own: never in the place of the distribution's.
put 755 "$build/lib/aio2/libaio.so.1" "$LIBDIR/aio2"
link libaio.so.1 "$LIBDIR/aio2" libaio.so
link ../libaio2-preload.so "$LIBDIR/aio2" libaio2-preload.so
put 755 "$build/lib/libaio2-preload.so" "$LIBDIR"
put 755 "$run" "$BINDIR" aio2-run
put 644 "$pc/aio2.pc" "$PKGCONFIGDIR"
put 644 "$pc/aio2-ffi.pc" "$PKGCONFIGDIR"

for page in man/*.[1-9]; do
    section=$MANDIR/man${page##*.}
    put 644 "$page" "$section"
    # A page that describes several functions is found under the name of each.
    for name in $(sed -n 's/^\.\\" also: //p' "$page"); do
        link "$(basename "$page")" "$section" "$name"
    done
done

if [ "$action" = install ] && [ -z "$DESTDIR" ] && [ "$(id -u)" = 0 ]; then
    ldconfig || true
fi
