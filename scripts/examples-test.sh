#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The programs in examples/ in C, C++ and Python compile without a warning and do what they say. (first.c, the README's program, has its
# own test.)

set -eu
. "$(dirname "$0")/common.sh"

# Not in /tmp, which may be in memory: one of the programs shows the page cache.
work=$(mktemp -d "${TMPDIR:-/var/tmp}/aio2-examples.XXXXXX")
trap 'rm -rf "$work"' EXIT
bin=$work/bin
mkdir "$bin"
passed=0

compile() { # COMPILER
    local source
    for source in examples/*.c; do
        "$1" -std=c11 -O2 -Wall -Wextra -Wpedantic -Werror -Iinclude -o "$bin/$(basename "$source" .c)" "$source" \
            -L"$build/lib" -laio2 -Wl,-rpath,"$build/lib"
    done
}

done_with() {
    echo "ok   $1"
    passed=$((passed + 1))
}

# ---- copytree: what it makes is the same -----------------------------------------------------------

test_copytree() {
    local from=$work/from to=$work/to
    rm -rf "$from" "$to"
    mkdir -p "$from/deep/er/and/deeper" "$from/many" "$from/empty"
    cp -a src c-tests include "$from"
    for ((i = 0; i < 300; i++)); do
        echo "$i" >"$from/many/$i"
    done
    : >"$from/nothing"
    head -c 5000000 /dev/urandom >"$from/large"
    cp "$from/large" "$from/deep/er/and/deeper/a name with
two lines"
    truncate -s 3M "$from/hole"
    ln -s nowhere "$from/dangling"
    ln -s large "$from/link"
    chmod 4711 "$from/large"
    chmod 640 "$from/nothing"
    touch -h -d '2001-02-03 04:05:06.789' "$from/dangling" "$from/nothing" "$from/deep/er" "$from/deep"
    chmod 500 "$from/empty"
    "$bin/copytree" "$from" "$to" >"$work/out" || die "copytree: $(cat "$work/out")"
    diff -r --no-dereference "$from" "$to" || die "copytree: the copy differs"
    # Type, mode, owner and time of everything, also of the top directory. Sizes of files only, because those of directories may differ.
    attributes() {
        (cd "$1" && find . -printf '%p %y %m %U %G %T@ %l\n' | sort && find . -type f -printf '%p %s\n' | sort)
    }
    diff <(attributes "$from") <(attributes "$to") || die "copytree: attributes differ"
    if "$bin/copytree" "$from" "$to" >"$work/out" 2>&1; then
        die "copytree: it copies over what is there"
    fi
    grep -q 'mkdir: File exists' "$work/out" || die "copytree: over what is there it says: $(cat "$work/out")"
    done_with copytree
}

# ---- follow: pipes and files at once ---------------------------------------------------------------

test_follow() {
    local dir=$work/follow
    rm -rf "$dir"
    mkdir "$dir"
    mkfifo "$dir/one" "$dir/two"
    echo 'was there' >"$dir/file"
    # 10 bytes, and 4 + 6 + 5 + 6 of what comes.
    timeout 30 "$bin/follow" -n 31 "$dir/one" "$dir/two" "$dir/file" - < <(sleep 0.2; echo std) >"$dir/out" &
    local follow=$!
    (sleep 0.1; echo first >"$dir/two") &
    (sleep 0.3; printf 'la' >>"$dir/file"; sleep 0.2; echo te >>"$dir/file") &
    (sleep 0.4; echo other >"$dir/one") &
    wait $follow || die "follow ends with an error, or not at all: $(cat "$dir/out")"
    wait
    sed "s|^$dir/||" "$dir/out" | sort >"$dir/sorted"
    printf '%s\n' '-: std' 'file: late' 'file: was there' 'one: other' 'two: first' | diff - "$dir/sorted" ||
        die "follow prints something else"
    done_with follow
}

# ---- echo: idle connections cost no threads ----------------------------------------------------------

test_echo() {
    local clients=10000 fds=() threads i fd port said
    # As many as there can be descriptors, with some for the shell, and for the program.
    ulimit -Sn "$(ulimit -Hn)"
    [ "$(ulimit -n)" = unlimited ] || ((clients + 100 < $(ulimit -n))) || clients=$(($(ulimit -n) - 100))
    : >"$work/said"
    "$bin/echo" -s -n $((clients + 1)) >"$work/said" &
    local echo=$!
    until read -r _ port <"$work/said" && [ -n "$port" ]; do
        kill -0 $echo || die "echo does not start"
        sleep 0.01
    done
    for ((i = 0; i < clients; i++)); do
        exec {fd}<>"/dev/tcp/127.0.0.1/$port"
        fds+=("$fd")
    done
    exec {fd}<>"/dev/tcp/127.0.0.1/$port"
    echo "is there anybody?" >&"$fd"
    read -r -t 30 said <&"$fd" || die "echo says nothing"
    [ "$said" = "is there anybody?" ] || die "echo says: $said"
    # A request that sleeps ends beside them.
    for ((i = 0; i < 300; i++)); do
        grep -qx "clients $((clients + 1))" "$work/said" && break
        sleep 0.1
    done
    grep -qx "clients $((clients + 1))" "$work/said" || die "echo says: $(tail -n 3 "$work/said")"
    threads=("/proc/$echo/task/"*)
    [ ${#threads[@]} -lt 200 ] || die "echo has ${#threads[@]} threads for $clients connections"
    for fd in "$fd" "${fds[@]}"; do
        exec {fd}>&-
    done
    wait $echo || die "echo ends with an error"
    done_with "echo ($clients idle connections, ${#threads[@]} threads)"
}

# ---- cachemap: what was put into the cache is in the map -------------------------------------------

test_cachemap() {
    local file=$work/mapped
    head -c 655360 /dev/urandom >"$file"
    sync "$file"
    "$bin/cachemap" "$file" >"$work/out"
    diff - "$work/out" <<'MAP' || die "cachemap: a file that was just written"
           0 ##########
655360 of 655360 bytes are in the page cache
MAP
    dd if="$file" iflag=nocache count=0 status=none
    if ! "$bin/cachemap" "$file" | grep -q '^0 of 655360'; then
        echo "the page cache cannot be dropped here: the rest of the map is not tested"
        return
    fi
    # So cachemap has dropped its own reads from the cache. A write brings only its own pages into the cache.
    dd if=/dev/urandom of="$file" bs=64k seek=3 count=2 conv=notrunc status=none
    dd if=/dev/urandom of="$file" bs=4k seek=130 count=1 conv=notrunc status=none
    "$bin/cachemap" "$file" >"$work/out"
    diff - "$work/out" <<'MAP' || die "cachemap: a file of which a part is there"
           0 ...##...+.
135168 of 655360 bytes are in the page cache
MAP
    done_with cachemap
}

# ---- The same program in other languages: what it prints for each file --------------------------------

check_first() { # NAME COMMAND...
    local name=$1 i
    shift
    for ((i = 0; i < 20; i++)); do
        head -c $((11 + i)) README.md >"$work/file$i"
    done
    if "$@" "$work"/file{0..19} / >"$work/out" 2>&1; then
        die "$name: reading a directory does not fail"
    fi
    {
        for ((i = 0; i < 20; i++)); do
            echo "$work/file$i: read $((11 + i)) bytes"
        done
        echo "/: Is a directory"
    } | sort >"$work/expected"
    diff "$work/expected" \
        <(sed 's/, waited [0-9]* ns, ran [1-9][0-9]* ns$//' "$work/out" | sort) || die "$name prints something else"
    done_with "$name"
}

test_cxx() { # COMPILER
    local flags=(-O2 -Wall -Wextra -Wpedantic -Werror -Wold-style-cast -Iinclude -L"$build/lib" -Wl,-rpath,"$build/lib")
    "$1" -std=c++17 "${flags[@]}" -o "$bin/first" examples/first.cc -laio2
    check_first "first.cc ($1)" "$bin/first"
    echo 'int main() { return __cpp_impl_coroutine == 0; }' >"$work/coroutine.cc"
    if ! "$1" -std=c++20 -o "$bin/coroutine" "$work/coroutine.cc" 2>/dev/null; then
        echo "$1 has no coroutines"
        return
    fi
    "$1" -std=c++20 "${flags[@]}" -o "$bin/copies" examples/copies.cc -laio2
    head -c 5000000 /dev/urandom >"$work/large"
    : >"$work/nothing"
    "$bin/copies" "$work/large" "$work/large.copy" "$work/nothing" "$work/nothing.copy" || die "copies fails"
    cmp "$work/large" "$work/large.copy" && cmp "$work/nothing" "$work/nothing.copy" || die "copies: the copy differs"
    if "$bin/copies" "$work/none" "$work/none.copy" 2>"$work/out"; then
        die "copies: copying what is not there does not fail"
    fi
    grep -qx "$work/none: No such file or directory" "$work/out" || die "copies: of what is not there it says: $(cat "$work/out")"
    done_with "copies.cc ($1)"
}

test_python() {
    check_first first.py env LD_LIBRARY_PATH="$build/lib" python3 examples/first.py
}

skipped=0
for cc in gcc clang; do
    command -v $cc >/dev/null || continue
    compile $cc
done
test_copytree
test_follow
test_echo
mapped=$passed
test_cachemap
skipped=$((skipped + (mapped == passed)))
for cxx in g++ clang++; do
    command -v $cxx >/dev/null || continue
    test_cxx $cxx
done
if python3 -c 'import cffi' 2>/dev/null; then
    test_python
else
    echo "SKIP first.py: there is no cffi for Python"
    skipped=$((skipped + 1))
fi
echo "$passed passed, 0 failed, $skipped skipped"
