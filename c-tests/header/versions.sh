# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=bash
# A program asks for libaio2's functions in the version AIO2_0; one that was linked when they had no version, beside libaio's that had
# theirs, runs on. A program without any versions gets libaio's oldest, as from libaio.
# with any engine the same

set -eu
work=$BUILD/versions
rm -rf "$work"
mkdir -p "$work"
cat >"$work/program.c" <<'END'
#include <aio2.h>
int main(void)
{
    io_context2_t ctx = NULL;
    struct io_event2 event;
    struct iocb2 iocb;

    io_prep2_nop(&iocb);
    iocb.data = 7;
    if (io_setup2(IO_SETUP2_VERSION, NULL, &ctx) != 0 || io_submit2(ctx, &iocb, sizeof(iocb)) != 64)
        return 1;
    if (io_getevents2(ctx, 1, &event, sizeof(event), NULL) != 24 || event.data != 7 || io_issue2(&iocb, &event, 24) != 24)
        return 2;
    return io_destroy2(ctx) != 0;
}
END
"$CC" -I"$INCLUDE" -c -o "$work/program.o" "$work/program.c"

"$CC" -o "$work/new" "$work/program.o" -L"$LIBDIR" -laio2
for name in io_setup2 io_submit2 io_getevents2 io_issue2 io_destroy2; do
    nm -D "$work/new" | grep -q " U $name@AIO2_0$" || { echo "$name: $(nm -D "$work/new" | grep $name)"; exit 1; }
done

# The library as it was: what the linker saw of it.
names=(io_setup2 io_destroy2 io_submit2 io_getevents2 io_pgetevents2 io_cancel2 io_issue2 io_ring_fd2)
{
    for name in "${names[@]}"; do
        echo "int $name(void); int $name(void) { return 0; }"
    done
    echo 'int io_setup(void); int io_setup(void) { return 0; }'
} >"$work/before.c"
mkdir "$work/before"
echo 'LIBAIO_0.4 { io_setup; };' >"$work/before.map"
"$CC" -shared -fPIC -o "$work/before/libaio2.so" "$work/before.c" -Wl,-soname,libaio2.so.0,--version-script="$work/before.map"
"$CC" -o "$work/old" "$work/program.o" -L"$work/before" -laio2
nm -D "$work/old" | grep -q ' U io_setup2$' || { echo "this is not how programs were linked: $(nm -D "$work/old")"; exit 1; }

# No versions at all.
cat >"$work/oldest.c" <<'END'
#define _GNU_SOURCE
#include <dlfcn.h>
int io_getevents(void), io_setup(void);
int main(void)
{
    int (*getevents)(void) = io_getevents, (*setup)(void) = io_setup;

    return (void *)getevents != dlvsym(RTLD_DEFAULT, "io_getevents", "LIBAIO_0.1") ||
           (void *)setup != dlvsym(RTLD_DEFAULT, "io_setup", "LIBAIO_0.4") || dlsym(RTLD_DEFAULT, "io_setup2") == 0;
}
END
mkdir "$work/none"
echo 'int io_setup(void); int io_setup(void) { return 0; } int io_getevents(void); int io_getevents(void) { return 0; }' >"$work/none.c"
"$CC" -shared -fPIC -o "$work/none/libaio2.so" "$work/none.c" -Wl,-soname,libaio2.so.0
"$CC" -o "$work/oldest" "$work/oldest.c" -L"$work/none" -laio2 -ldl
for program in new old oldest; do
    LD_LIBRARY_PATH=$LIBDIR LD_BIND_NOW=1 "$work/$program" 2>"$work/out" || { echo "$program ends with $?: $(cat "$work/out")"; exit 1; }
    [ ! -s "$work/out" ] || { echo "$program: $(cat "$work/out")"; exit 1; }
done
rm -rf "$work"
