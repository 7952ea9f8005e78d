#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# symbols.sh libaio2|libaio1: the names and versions of libaio's ten functions, and the version nodes and their order,
# are the real library's, and nothing else is in these nodes. The nodes' own names, absolute objects, are in the table
# too.
. "$(dirname "$0")/common.sh" || exit 1
need readelf $CC

real=$($CC -print-file-name=libaio.so)
case $real in /*) ;; *) skip "there is no real libaio to compare with (libaio-dev)" ;; esac
ours=$real
if [ "$REAL" != 1 ]; then
    case $1 in
    libaio2) ours=$LIBDIR/libaio2.so.0 ;;
    libaio1)
        [ -n "$COMPATDIR" ] || skip "needs COMPATDIR"
        ours=$COMPATDIR/libaio.so.1
        ;;
    esac
fi

# type, binding, visibility, name@version or name@@version, of what is defined and belongs to a LIBAIO_ node.
table() {
    readelf --dyn-syms -W "$1" | awk '$7 != "UND" && $8 ~ /LIBAIO_/ { print $4, $5, $6, $7 == "ABS", $8 }' | sort
}
nodes() {
    readelf -V -W "$1" | awk '
        /^Version definition/ { on = 1 } /^Version needs/ { on = 0 }
        on && /(Name|Parent [0-9]+): LIBAIO_/ { print $(NF - 1), $NF }' | sort
}

table "$real" >"$BUILD/symbols.real"
[ "$(grep -c 'FUNC.*io_' "$BUILD/symbols.real")" = 13 ] || fail "the real library does not have the 13 symbols expected of 0.3.113"
table "$ours" >"$BUILD/symbols.$1"
diff "$BUILD/symbols.real" "$BUILD/symbols.$1" || fail "$ours: symbols differ from $real (< real, > ours)"
nodes "$real" >"$BUILD/nodes.real"
nodes "$ours" >"$BUILD/nodes.$1"
diff "$BUILD/nodes.real" "$BUILD/nodes.$1" || fail "$ours: version nodes differ from $real (< real, > ours)"

# A program that only links must not have other calls taken over. libaio.so.1 comes with those of libc's functions that tell of the
# kernel's AIO: a program may make some of its calls by syscall().
defines() {
    readelf --dyn-syms -W "$ours" | awk '$7 != "UND" { print $8 }' | grep -q "^$1\(@\|\$\)"
}
for name in io_uring_setup mremap munmap fork syscall _exit close; do
    case $1-$name in
    libaio1-syscall | libaio1-_exit | libaio1-close)
        [ "$REAL" = 1 ] || defines $name || fail "$ours does not define $name"
        ;;
    *) ! defines $name || fail "$ours defines $name" ;;
    esac
done
