#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# aio2-run.sh help|stats|transparent: aio2-run itself.
. "$(dirname "$0")/common.sh" || exit 1
on_ours run
[ "$REAL" != 1 ] || skip "there is no aio2-run with the real libaio"
case $1 in
help)
    "$RUN" --help >"$BUILD/help" || fail "--help ends with $?"
    grep -q -- --stats "$BUILD/help" || fail "--help does not name --stats"
    ! "$RUN" >/dev/null 2>&1 || fail "without a program it ends with 0"
    ! "$RUN" --no-such-option true >/dev/null 2>&1 || fail "an unknown option is taken"
    ;;
stats)
    need fio
    devices
    cd "$temp" || exit 1
    in_background "$RUN" --stats fio --name=job --ioengine=libaio --thread=1 --filename="$temp/stats-target" --size=8M --bs=4k \
        --iodepth=8 --rw=randrw --fsync=64 >out 2>err </dev/null
    [ "$status" = 0 ] || { cat out err; fail "fio under --stats ends with $status"; }
    cat out err
    cat aio2-stats.* 2>/dev/null
    cat err aio2-stats.* 2>/dev/null >all
    for word in stats-target p50 p99 max io_submit; do
        grep -q "$word" all || fail "the statistics do not say $word"
    done
    grep -qiE 'wait' all || fail "the statistics do not say how long requests waited"
    # fio's children, which are processes: to the file.
    rm -f aio2-stats.* all
    in_background "$RUN" --stats="$temp/here" fio --name=job --ioengine=libaio --thread=0 --filename="$temp/stats-target" --size=8M --bs=4k \
        --iodepth=8 --rw=randread >out 2>err </dev/null
    [ "$status" = 0 ] || { cat out err; fail "fio with processes under --stats=FILE ends with $status"; }
    [ -s "$temp/here" ] || fail "--stats=FILE has made no file"
    cat "$temp/here"
    grep -q stats-target "$temp/here" || fail "the file does not name what was read"
    # A daemon.
    program=$(build daemonize) || exit 1
    in_background "$RUN" --stats="$temp/daemon" "$program" "$temp" >out 2>err </dev/null
    [ "$status" = 0 ] || { cat out err; fail "the daemon's parent ends with $status"; }
    for _ in $(seq 100); do
        [ -e "$temp/daemon-done" ] && [ -s "$temp/daemon" ] && break
        sleep 0.1
    done
    [ -e "$temp/daemon-done" ] || fail "the daemon did not come to its end"
    grep -q daemon-target "$temp/daemon" || fail "no statistics of the daemon"
    grep -q 'aio2: daemonize' "$temp/daemon" || fail "the statistics do not say whose they are"
    ;;
transparent)
    # The program's status, its signals, output, arguments and descriptors are its own.
    "$RUN" sh -c 'exit 43'
    [ $? = 43 ] || fail "the exit status is lost"
    "$RUN" sh -c 'kill -TERM $$'
    [ $? = 143 ] || fail "the signal is lost"
    out=$("$RUN" printf '%s|' 'a b' '' '*' -- --stats)
    [ "$out" = 'a b||*|--|--stats|' ] || fail "the arguments are changed: $out"
    [ "$(echo in | "$RUN" cat)" = in ] || fail "standard input is lost"
    err=$("$RUN" true 2>&1)
    [ -z "$err" ] || fail "it says something: $err"
    "$RUN" /nonexistent/program >/dev/null 2>&1
    status=$?
    [ $status = 127 ] || fail "a program that is not there ends with $status"
    # Ordinary programs, with many system calls of many kinds.
    "$RUN" bash -c 'find / -xdev -maxdepth 3 2>/dev/null | sort | md5sum | wc -c' | grep -qx 36 || fail "a pipeline does not work"
    if command -v python3 >/dev/null; then
        "$RUN" python3 -c '
import os, subprocess, threading, ctypes
libc = ctypes.CDLL(None, use_errno=True)
assert libc.syscall(39) == os.getpid()
assert libc.syscall(3, -1) == -1 and ctypes.get_errno() == 9
t = [threading.Thread(target=lambda: subprocess.check_call(["true"])) for _ in range(8)]
[x.start() for x in t]; [x.join() for x in t]
assert os.spawnlp(os.P_WAIT, "true", "true") == 0' || fail "python3 does not work"
    fi
    ;;
esac
