#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Installs into an empty directory and compares the files with the expected ones. Builds C and C++ programs with pkg-config against the
# installed files, linked dynamically and statically, and runs them. Then uninstalls: no file and no folder is left. Builds a copy of the
# tree with other tools and flags. If that build is older than its sources, it must not be installed.

set -eu
. "$(dirname "$0")/common.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
dest=$work/dest

files() {
    (cd "$dest" && find . ! -type d -printf '%P%y%m %l\n' | sed 's/l777 / -> /; s/f\([0-7]*\) $/ \1/' | sort)
}

expected() { # PREFIX LIBDIR
    sed -n "s|^\.\\\\\" also: \(.*\)|$1/share/man/man3/\1 -> aio2_inline.3|p" man/aio2_inline.3
    cat <<EOF
$1/bin/aio2-run 755
$1/include/aio2.h 644
$1/include/aio2/libaio.h 644
$1/share/aio2/valgrind.supp 644
$1/share/man/man1/aio2-run.1 644
$1/share/man/man3/aio2_inline.3 644
$1/share/man/man3/io_cancel2.3 -> io_submit2.3
$1/share/man/man3/io_destroy2.3 -> io_setup2.3
$1/share/man/man3/io_getevent2.3 -> io_getevents2.3
$1/share/man/man3/io_getevents2.3 644
$1/share/man/man3/io_issue2.3 -> io_submit2.3
$1/share/man/man3/io_pgetevents2.3 -> io_getevents2.3
$1/share/man/man3/io_ring2_reap.3 -> io_getevents2.3
$1/share/man/man3/io_ring2_peek.3 -> io_getevents2.3
$1/share/man/man3/io_ring2_consume.3 -> io_getevents2.3
$1/share/man/man3/io_ring2_overflowed.3 -> io_getevents2.3
$1/share/man/man3/io_ring_fd2.3 -> io_setup2.3
$1/share/man/man3/io_setup2.3 644
$1/share/man/man3/io_submit2.3 644
$1/share/man/man7/aio2.7 644
$1/share/man/man7/aio2_libaio.7 644
$1/share/man/man7/iocb_attr.7 644
$2/aio2/libaio.so -> libaio.so.1
$2/aio2/libaio.so.1 755
$2/aio2/libaio2-preload.so 755
$2/libaio2.a 644
$2/libaio2.so -> libaio2.so.0
$2/libaio2.so.$version 755
$2/libaio2-ffi.so -> libaio2-ffi.so.0
$2/libaio2-ffi.so.$version 755
$2/libaio2-ffi.so.0 -> libaio2-ffi.so.$version
$2/libaio2.so.0 -> libaio2.so.$version
$2/pkgconfig/aio2.pc 644
$2/pkgconfig/aio2-ffi.pc 644
EOF
}

# try COMPILER STANDARD LANGUAGE HOW SOURCE: builds with what pkg-config says, and runs it.
try() {
    local compiler=$1 standard=$2 language=$3 how=$4 source=$5 libs flags
    flags=$(pkg-config --cflags aio2)
    case $how in
    dynamic) libs=$(pkg-config --libs aio2) ;;
    # Only this library is linked statically.
    archive) libs=$(pkg-config --static --libs aio2 | sed 's/-laio2/-l:libaio2.a/') ;;
    # The whole program is linked statically.
    static) libs="-static $(pkg-config --static --libs aio2)" ;;
    esac
    # shellcheck disable=SC2086
    $compiler -std=$standard -x $language -O2 -Wall -Wextra -Wpedantic -Werror $flags "$source" -x none -o "$work/program" $libs
    LD_LIBRARY_PATH=$dest$libdir "$work/program" "$work/file" >"$work/out" ||
        die "$compiler -std=$standard $how: $(basename "$source") ends with $?: $(cat "$work/out")"
    # The program is linked in the intended way.
    case $how in
    dynamic) readelf -dW "$work/program" | grep -q "NEEDED.*$soname" || die "$how: does not need $soname" ;;
    archive) ! readelf -dW "$work/program" | grep -q 'NEEDED.*aio2' || die "$how: needs the shared library" ;;
    static) ! readelf -lW "$work/program" | grep -q INTERP || die "$how: is not static" ;;
    esac
    grep -q 'read 11 bytes' "$work/out" || die "$compiler $how prints: $(cat "$work/out")"
}

printf 'eleven byte' >"$work/file"
# A C++ program like the README's, with the constructs of a C++ programmer. It includes the header twice.
cat >"$work/first.cc" <<'EOF'
#include <aio2.h>
#include <aio2.h>
#include <cstdio>
#include <fcntl.h>
#include <memory>
#include <stdexcept>
#include <vector>

int main(int, char **argv)
{
    io_context2_t ctx = nullptr;
    if (io_setup2(IO_SETUP2_VERSION, nullptr, &ctx) != 0)
        throw std::runtime_error("io_setup2");
    std::unique_ptr<io_ring2, int (*)(io_context2_t)> context(ctx, io_destroy2);
    std::vector<char> buf(4096);
    int fd = open(argv[1], O_RDONLY);
    iocb2 iocb;
    io_event2 event;
    io_prep2_pread(&iocb, fd, buf.data(), buf.size(), 0);
    iocb.data = 42;
    try {
        if (io_submit2(ctx, &iocb, iocb.bytes) != iocb.bytes || io_getevents2(ctx, 1, &event, sizeof(event), nullptr) < 0)
            throw std::runtime_error("request");
        throw 11;
    } catch (int expected) {
        if (event.res != expected)
            return 1;
    }
    std::printf("request %llu read %lld bytes\n", static_cast<unsigned long long>(event.data), static_cast<long long>(event.res));
}
EOF
# The C program includes the header twice, after headers that define the same types.
{
    printf '#include <aio2.h>\n#include <signal.h>\n#include <linux/aio_abi.h>\n'
    cat examples/first.c
} >"$work/first.c"

one() { # PREFIX LIBDIR
    local prefix=$1
    libdir=$2
    shift 2
    make --no-print-directory install DESTDIR="$dest" PREFIX="$prefix" LIBDIR="$libdir" >"$work/log" 2>&1 || { cat "$work/log"; die "make install fails"; }
    diff -u <(expected "${prefix#/}" "${libdir#/}" | sort) <(files) || die "other files were installed than should be"

    export PKG_CONFIG_SYSROOT_DIR=$dest PKG_CONFIG_LIBDIR=$dest$libdir/pkgconfig
    # Without these, pkg-config leaves out -I and -L of the system's directories, even behind the sysroot.
    export PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 PKG_CONFIG_ALLOW_SYSTEM_LIBS=1
    [ "$(pkg-config --modversion aio2)" = "$version" ] || die "pkg-config says another version"
    pkg-config --libs aio2-ffi | grep -q -- '-laio2-ffi .*-laio2\>' || die "--libs aio2-ffi: $(pkg-config --libs aio2-ffi)"
    pkg-config --cflags aio2 | grep -qF -- "-I$dest$prefix/include" || die "--cflags: $(pkg-config --cflags aio2)"
    for how in dynamic archive static; do
        for compiler in gcc clang; do
            command -v $compiler >/dev/null || continue
            try $compiler c11 c $how "$work/first.c"
        done
        for compiler in g++ clang++; do
            command -v $compiler >/dev/null || continue
            try $compiler c++17 c++ $how "$work/first.cc"
        done
    done

    make --no-print-directory uninstall DESTDIR="$dest" PREFIX="$prefix" LIBDIR="$libdir" >"$work/log" 2>&1 || { cat "$work/log"; die "make uninstall fails"; }
    [ -z "$(ls -A "$dest")" ] || die "make uninstall leaves: $(find "$dest" -mindepth 1)"
}

one /usr /usr/lib/x86_64-linux-gnu
one /opt/aio2 /opt/aio2/lib

# ---- A copy of the tree: tools, flags, and builds that are older than the sources --------------------

tree=$work/tree
mkdir "$tree"
tar -c --exclude=./build --exclude=./target --exclude=./.git . | tar -x -C "$tree"
[ -e "$cargo_archive" ] || die "there is no $cargo_archive: run make first"
# Cargo is not called again: the test of the tarball covers the whole build.
in_tree() {
    make --no-print-directory -C "$tree" "$@" AIO2_ARCHIVE="$cargo_archive" >"$work/log" 2>&1
}
in_tree || { cat "$work/log"; die "make fails in a copy of the tree"; }
[ "$(wc -l <"$work/log")" = 2 ] && grep -q '^built in build/lib: libaio2.so.0 ' "$work/log" || die "make says: $(cat "$work/log")"
# The files are the same as those built here: they do not depend on the folder or the time of the build.
if [ -z "${CC:-}${CFLAGS:-}${CPPFLAGS:-}${LDFLAGS:-}" ]; then
    for file in libaio2.a "libaio2.so.$version" "libaio2-ffi.so.$version" aio2/libaio.so.1 aio2/libaio2-preload.so; do
        cmp "$build/lib/$file" "$tree/build/lib/$file" || die "built in another folder, $file is another"
    done
fi

for tool in cc ld.bfd ar objcopy; do
    printf '#!/bin/sh\necho "%s $*" >>"%s/tools"\nexec %s "$@"\n' "$tool" "$work" "$tool" >"$work/my-$tool"
    chmod +x "$work/my-$tool"
done
in_tree V=1 CC="$work/my-cc -pipe" LD="$work/my-ld.bfd" AR="$work/my-ar" OBJCOPY="$work/my-objcopy" CPPFLAGS=-DANOTHER_DEFINITION \
    CFLAGS='-O1 -fstack-protector-strong' LDFLAGS=-Wl,--hash-style=both || { cat "$work/log"; die "make fails with other tools"; }
for used in '^ld.bfd .*-r ' '^ar ' '^objcopy ' '^cc -pipe .*-DANOTHER_DEFINITION .*preload/preload.c' \
    '^cc -pipe .*-O1 -fstack-protector-strong .*-Wl,--hash-style=both .*preload/preload.c' '^cc .*--hash-style=both .*libaio2.so'; do
    grep -q -- "$used" "$work/tools" || die "not called: $used; but: $(cat "$work/tools")"
done
grep -q "my-ar rcsD" "$work/log" || die "V=1 does not show the commands: $(cat "$work/log")"

# As if root installed what a user has built: no flags are given again, and nothing is built again. The prefix has a space in its name.
prefix="$work/a prefix"
in_tree install PREFIX="$prefix" PATH=/usr/bin:/bin || { cat "$work/log"; die "what was built is not installed"; }
cmp "$tree/build/lib/libaio2.a" "$prefix/lib/libaio2.a"
for says in "installed: $prefix/lib/libaio2.so" "LD_LIBRARY_PATH=$work/a\ prefix/lib," "PKG_CONFIG_PATH=$work/a\ prefix/lib/pkgconfig"; do
    grep -qF "$says" "$work/log" || die "make install says: $(cat "$work/log")"
done
(
    unset PKG_CONFIG_SYSROOT_DIR PKG_CONFIG_LIBDIR
    export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
    eval "cc -o '$work/first' examples/first.c $(pkg-config --cflags --libs aio2)" && LD_LIBRARY_PATH=$prefix/lib "$work/first" "$work/file"
) >"$work/log" 2>&1 || { cat "$work/log"; die "in a folder with a space in its name, pkg-config's answer cannot be used"; }
# The examples for other build systems, with the installed files.
cp -RL examples "$work"
for how in cmake meson; do
    command -v $how >/dev/null || continue
    (
        unset PKG_CONFIG_SYSROOT_DIR PKG_CONFIG_LIBDIR
        export PKG_CONFIG_PATH=$prefix/lib/pkgconfig LD_LIBRARY_PATH=$prefix/lib
        cd "$work/examples/$how"
        case $how in
        cmake) cmake -B build && cmake --build build ;;
        meson) meson setup build && meson compile -C build ;;
        esac && build/first "$work/file" | tee "$work/out"
    ) >"$work/log" 2>&1 || { cat "$work/log"; die "examples/$how does not build, or does not run"; }
    grep -q 'file: read 11 bytes' "$work/out" || die "the program of examples/$how says: $(cat "$work/out")"
done

in_tree uninstall PREFIX="$prefix" || { cat "$work/log"; die "make uninstall fails"; }
[ ! -e "$prefix" ] || die "make uninstall leaves: $(find "$prefix")"
echo '/* changed */' >>"$tree/preload/report.c"
! in_tree install PREFIX="$prefix" || die "it installs what is older than the sources"
grep -q 'run `make` first' "$work/log" || die "of a build that is older than the sources, make install says: $(cat "$work/log")"
[ ! -e "$prefix" ] || die "what is older than the sources was installed"
