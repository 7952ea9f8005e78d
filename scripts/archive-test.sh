#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The static archive: it defines the exported functions and no other global symbol. It can be linked beside another Rust
# archive (Rust's own archives cannot, because each contains the same standard library). It does its work at exit().

set -eu
. "$(dirname "$0")/common.sh"

archive=$build/lib/libaio2.a
diff -u <(exported_names) <(nm -g --defined-only "$archive" | awk 'NF == 3 { print $3 }' | sort) ||
    die "libaio2.a defines other global symbols than exports.txt"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Uses much of the standard library: allocation, formatting, threads, and unwinding through both archives' tables.
cat >"$work/other.rs" <<'EOF'
#[unsafe(no_mangle)]
pub extern "C" fn other() -> i32 {
    std::panic::set_hook(Box::new(|_| ()));
    let words: Vec<String> = (0..40).map(|i| format!("{i}")).collect();
    let caught = std::panic::catch_unwind(|| if words.len() == 40 { panic!("on purpose") });
    let thread = std::thread::spawn(move || words.len() as i32 + 1);
    thread.join().unwrap() + i32::from(caught.is_err())
}
EOF
cat >"$work/both.c" <<'EOF'
int other(void);
int first(int argc, char **argv);
int main(int argc, char **argv)
{
    return other() == 42 ? first(argc, argv) : 42;
}
EOF
rustc --edition 2024 --crate-type staticlib -o "$work/libother.a" "$work/other.rs"
for cc in gcc clang; do
    command -v $cc >/dev/null || continue
    $cc -std=c11 -Wall -Wextra -Werror -Iinclude -Dmain=first -c -o "$work/first.o" examples/first.c
    $cc -std=c11 -Wall -Wextra -Werror -c -o "$work/both.o" "$work/both.c"
    for archives in "$archive $work/libother.a" "$work/libother.a $archive"; do
        for how in "" "-Wl,--gc-sections"; do
            # shellcheck disable=SC2086
            $cc $how -o "$work/both" "$work/both.o" "$work/first.o" $archives -lutil -lrt -lpthread -lm -ldl
            "$work/both" Makefile >"$work/out"
            grep -q '^Makefile: read [1-9]' "$work/out" || die "linked by $cc $how it prints: $(cat "$work/out")"
        done
    done
done

# An entry of .fini_array starts the library's work at exit(). No symbol refers to it, and it must survive each way of linking.
# The only worker is blocked by a read of a pipe, so the write behind that read is carried out at exit() or never.
cat >"$work/exit.c" <<'EOF'
#include <aio2.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    struct io_setup2_params params = { .bytes = sizeof(params), .workers = 1, .eventfd = -1 };
    static char byte;
    static struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
    struct iocb2 iocbs[2];
    io_context2_t ctx = NULL;
    int ends[2], fd;
    if (argc < 2 || pipe(ends) != 0 || (fd = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC, 0600)) < 0)
        return 1;
    if (io_setup2(IO_SETUP2_VERSION, &params, &ctx) != 0)
        return 1;
    io_prep2_preadv2(&iocbs[0], ends[0], &iov, 1, -1, 0);
    io_prep2_pwrite(&iocbs[1], fd, "written", 7, 0);
    if (io_submit2(ctx, iocbs, sizeof(iocbs)) != sizeof(iocbs))
        return 1;
    if (argc > 2)
        _exit(0);
    exit(0);
}
EOF
for cc in gcc clang; do
    command -v $cc >/dev/null || continue
    for how in "" "-Wl,--gc-sections" "-static" "-static -Wl,--gc-sections" "-static-pie"; do
        # shellcheck disable=SC2086
        $cc $how -std=c11 -Wall -Wextra -Werror -Iinclude -o "$work/exit" "$work/exit.c" "$archive" -lutil -lrt -lpthread -lm -ldl
        timeout 20 "$work/exit" "$work/written" || die "linked by $cc $how, it ends with $?"
        [ "$(cat "$work/written")" = written ] || die "linked by $cc $how, exit() does not carry out what was accepted"
    done
done
# The control: without the work at exit() the file is empty, unless a worker wrote before the process ended.
for ((try = 0; try < 50; try++)); do
    timeout 20 "$work/exit" "$work/written" _exit || die "it ends with $?"
    [ -s "$work/written" ] || break
done
[ ! -s "$work/written" ] || die "the write was carried out before the end: this shows nothing"
