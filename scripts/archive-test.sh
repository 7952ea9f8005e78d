#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The static archive: it defines the exported functions and no other global symbol, and can be linked beside another Rust
# archive (Rust's own archives cannot: each brings the same standard library).

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
            grep -q '^request 42 read [1-9]' "$work/out" || die "linked by $cc $how it prints: $(cat "$work/out")"
        done
    done
done
echo "beside another Rust archive: ok"
