#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# qemu.sh io|bench ext4|zram: qemu's linux-aio, which reaps from the ring by itself and asks for an eventfd.
. "$(dirname "$0")/common.sh" || exit 1
need qemu-io qemu-img
need_root
job=$1 on=$2
on_ours 'run?'
check_on_ours
devices
target "$on" 256
[ "$on" != ext4 ] || truncate -s 256M "$target"

case $job in
io)
    # Patterns written in several sizes, many at once, then read in another process and another size.
    commands=()
    for i in $(seq 0 47); do
        commands+=(-c "aio_write -q -P $((i + 1)) $((i * 2))M $((4 << (i % 8)))k")
    done
    commands+=(-c aio_flush)
    in_background "${via[@]}" qemu-io -f raw -t none -n "${commands[@]}" "$target" >"$temp/out" 2>&1 </dev/null
    cat "$temp/out"
    [ "$status" = 0 ] || fail "writing: exit status $status"
    for reader in ours system; do
        commands=()
        for i in $(seq 0 47); do
            commands+=(-c "read -q -P $((i + 1)) $((i * 2))M $((4 << (i % 8)))k" -c "read -q -P 0 $((i * 2 + 1))M 512k")
        done
        if [ $reader = ours ]; then
            in_background "${via[@]}" qemu-io -f raw -t none -n "${commands[@]}" "$target" >"$temp/out" 2>&1 </dev/null
        else
            in_background qemu-io -f raw -t writeback "${commands[@]}" "$target" >"$temp/out" 2>&1 </dev/null
        fi
        cat "$temp/out"
        [ "$status" = 0 ] || fail "reading by $reader: exit status $status"
        ! grep -qi 'verification failed\|failed:' "$temp/out" || fail "reading by $reader: wrong data"
    done
    in_background "${via[@]}" qemu-io -f raw -t none -n -c 'writev -P 0x5a 1M 4k 8k 64k 512' -c 'write -z 8M 1M' -c 'flush' \
        -c 'readv -P 0x5a 1M 4k 8k 64k 512' -c 'read -P 0 8M 1M' "$target" >"$temp/out" 2>&1 </dev/null
    cat "$temp/out"
    [ "$status" = 0 ] && ! grep -qi 'failed' "$temp/out" || fail "vectors: exit status $status"
    ;;
bench)
    for arguments in '-d 1 -s 4k' '-d 64 -s 4k' '-w -d 64 -s 4k' '-d 1 -s 64k' '-w -d 32 -s 8k --flush-interval=64'; do
        # shellcheck disable=SC2086
        in_background "${via[@]}" qemu-img bench -f raw -t none -n -c 20000 $arguments "$target" >"$temp/out" 2>&1 </dev/null
        cat "$temp/out"
        [ "$status" = 0 ] && grep -q '^Run completed' "$temp/out" || fail "qemu-img bench $arguments: exit status $status"
    done
    ;;
esac
