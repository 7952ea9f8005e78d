#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# aio2-run.sh help|check|stats|routes|inline|transparent|folder|cannot|planted: aio2-run itself.
. "$(dirname "$0")/common.sh" || exit 1
on_ours run
[ "$REAL" != 1 ] || skip "there is no aio2-run with the real libaio"
case $1 in
help)
    "$RUN" --help >"$BUILD/help" || fail "--help ends with $?"
    grep -q -- --stats "$BUILD/help" || fail "--help does not name --stats"
    # Each option that there is, and no other.
    diff <(sed -n 's/^    \(--[a-z][a-z]*\)[=) ].*/\1/p' "$RUN" | sort -u) <(sed -n 's/^  \(--[a-z][a-z]*\)[= ].*/\1/p' "$BUILD/help" | sort -u) ||
        fail "--help does not name the options that there are"
    grep -q '^Examples:' "$BUILD/help" || fail "--help has no examples"
    version=$(readlink "$LIBDIR/libaio2.so.0")
    "$RUN" --version | grep -q "^aio2-run of libaio2 ${version#libaio2.so.}, in /" || fail "--version says: $("$RUN" --version)"
    ends() { # STATUS ARGUMENTS...
        local status=$1
        shift
        "$RUN" "$@" >/dev/null 2>&1
        got=$?
        [ $got = "$status" ] || fail "$*: ends with $got, and not with $status"
    }
    ends 125
    ends 125 --no-such-option true
    ends 125 --libdir=/nonexistent true
    ends 125 --check
    ends 125 --check true true
    ends 126 /
    ends 127 /nonexistent/program
    ends 3 sh -c 'exit 3'
    ;;
check)
    # Of each kind of program, what --check says and how it ends. No program is run: each would make a file.
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    chmod 755 "$work"
    mkdir "$work/ran"
    chmod 1777 "$work/ran"
    cat >"$work/program.c" <<'END'
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
static long own(long nr, long a, long b)
{
#if defined(__x86_64__)
    long ret;
    __asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b) : "rcx", "r11", "memory");
    return ret;
#else
    return nr + a + b;
#endif
}
__attribute__((constructor)) static void runs(void)
{
    close(open(RAN, O_CREAT | O_WRONLY, 0644));
}
int main(int argc, char **argv)
{
    unsigned long ctx = 0;
    (void)own, (void)ctx, (void)argv;
#if defined(BY_SYSCALL)
    return syscall(SYS_io_setup, 1, &ctx) != 0 || syscall(SYS_io_submit, ctx, 0, NULL) != 0;
#elif defined(BY_ITSELF)
    return own(SYS_io_setup, 1, (long)&ctx) != 0 || own(SYS_io_submit, (long)ctx, 0) != 0;
#elif defined(BY_URING)
    return syscall(SYS_io_uring_setup, 1, &ctx) != 0 || syscall(SYS_io_uring_enter, ctx, 0, NULL) != 0;
#elif defined(BY_NAME)
    return puts(argc > 1 ? argv[1] : "libaio.so.1") < 0;
#else
    return argc > 1;
#endif
}
END
    make_program() { # NAME OPTIONS...
        "$CC" -O1 "-DRAN=\"$work/ran/$1\"" -o "$work/$1" "$work/program.c" "${@:2}" 2>"$work/log"
    }
    checks() { # STATUS EXPRESSION COMMAND...: its first line matches the expression
        local status=$1 expression=$2
        shift 2
        "$@" >"$work/out" 2>&1 </dev/null
        got=$?
        [ $got = "$status" ] || fail "$*: ends with $got: $(cat "$work/out")"
        head -n 1 "$work/out" | grep -q "$expression" || fail "$*: says $(cat "$work/out")"
    }
    check=("$RUN" --check)
    make_program plain && make_program by-name -DBY_NAME && make_program linked -Wl,--no-as-needed -laio || fail "cannot compile: $(cat "$work/log")"
    checks 1 '^nothing to help' "${check[@]}" "$work/plain"
    checks 0 '^yes: it is linked with libaio$' "${check[@]}" "$work/linked"
    grep -q "^run it with: aio2-run $work/linked$" "$work/out" || fail "it does not say what to do: $(cat "$work/out")"
    checks 0 '^yes: it names libaio' "${check[@]}" "$work/by-name"
    if [ "$(uname -m)" = x86_64 ]; then
        make_program by-syscall -DBY_SYSCALL && make_program by-itself -DBY_ITSELF && make_program by-uring -DBY_URING || fail "cannot compile"
        checks 0 '^yes: it seems to make .* by syscall()' "${check[@]}" "$work/by-syscall"
        checks 2 '^no: it seems to make .* by instructions of its own' "${check[@]}" "$work/by-itself"
        checks 1 '^nothing to help' "${check[@]}" "$work/by-uring"
        grep -q "io_uring's calls itself" "$work/out" || fail "of io_uring it says: $(cat "$work/out")"
        # A large program, which has any few bytes somewhere, and one that makes the calls.
        for program in gdb perf "$CC" bash; do
            ! command -v "$program" >/dev/null || checks 1 '^nothing to help' "${check[@]}" "$program"
        done
        ! command -v stress-ng >/dev/null || checks 0 '^yes: it seems to make .* by syscall()' "${check[@]}" stress-ng
    fi
    if make_program static -static; then
        checks 2 '^no: .*static is statically linked' "${check[@]}" "$work/static"
    fi
    make_program other-libc -Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1 || fail "cannot compile"
    checks 2 '^no: .*another C library' "${check[@]}" "$work/other-libc"
    # Another machine's: the number at 18 of the file.
    cp "$work/plain" "$work/other-machine"
    printf '\363\000' | dd of="$work/other-machine" bs=1 seek=18 conv=notrunc status=none
    checks 2 '^no: .*another kind of machine' "${check[@]}" "$work/other-machine"
    # By PATH; a script.
    PATH=$work:$PATH checks 0 '^yes' "${check[@]}" linked
    printf '#! %s\n' "$work/linked" >"$work/script"
    chmod 755 "$work/script"
    checks 0 'is a script' "${check[@]}" "$work/script"
    # A name that a shell would take apart.
    cp "$work/linked" "$work/it's  a \$name"
    checks 0 '^yes' "${check[@]}" "$work/it's  a \$name"
    told=$(sed -n 's/^run it with: aio2-run //p' "$work/out")
    eval "set -- check $told"
    [ $# = 2 ] && [ "$2" = "$work/it's  a \$name" ] || fail "what it says to run cannot be run: $told"
    # A script of the shell's, without a first line that says so; a name with a backslash; a script for nothing.
    printf 'exit 3\n' >"$work/back\\nslash"
    printf '#! /no/such/program\n' >"$work/for-nothing"
    chmod 755 "$work/back\\nslash" "$work/for-nothing"
    checks 1 'is a script' "${check[@]}" "$work/back\\nslash"
    checks 127 'which is not there' "${check[@]}" "$work/for-nothing"
    # What cannot be run.
    PATH=$PATH:$work checks 126 'not a program that can be run' "${check[@]}" program.c
    checks 127 'there is no program' "${check[@]}" "$work/nothing"
    checks 127 'there is no program' "${check[@]}" no-such-program
    checks 126 'not a program that can be run' "${check[@]}" "$work"
    checks 126 'not a program that can be run' "${check[@]}" "$work/program.c"
    if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
        cp -R "$LIBDIR" "$work/lib"
        cp "$RUN" "$work/aio2-run"
        chmod -R a+rX "$work"
        chmod 4755 "$work/linked"
        checks 0 '^yes' "${check[@]}" "$work/linked"
        checks 2 '^no: .*linked is set-user-ID' setpriv --reuid=65534 --regid=65534 --clear-groups "$work/aio2-run" "--libdir=$work/lib" \
            --check "$work/linked"
    fi
    [ -z "$(ls "$work/ran")" ] || fail "it has run $(ls "$work/ran")"
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
    # Each request took one route.
    submitted=$(sed -n 's/^io_submit: .* calls, \([0-9]*\) requests.*/\1/p' all)
    counted=$(sed -n 's/^requests: //p' all | tr ';' '\n' | awk '!/of these/ { sum += $1 } END { print sum }')
    [ "$submitted" = "$counted" ] || fail "of $submitted requests $counted are said to have been carried out"
    grep -qiE 'wait' all || fail "the statistics do not say how long requests waited"
    # fio's children, which are processes: to a file, which the program names, or to the file that was asked for.
    rm -f aio2-stats.* all
    in_background "$RUN" --stats fio --name=job --ioengine=libaio --thread=0 --filename="$temp/stats-target" --size=8M --bs=4k \
        --iodepth=8 --rw=randread >out 2>err </dev/null
    [ "$status" = 0 ] || { cat out err; fail "fio with processes under --stats ends with $status"; }
    named=$(sed -n 's/^aio2-run: fio made no AIO context.* add theirs to //p' err)
    [ -n "$named" ] && grep -q stats-target "$named" || { cat err; fail "the file '$named' does not name what was read"; }
    rm -f "$named"
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
    for _ in $(seq 600); do
        [ -e "$temp/daemon-done" ] && [ -s "$temp/daemon" ] && break
        sleep 0.1
    done
    [ -e "$temp/daemon-done" ] || fail "the daemon did not come to its end"
    grep -q daemon-target "$temp/daemon" || fail "no statistics of the daemon"
    grep -q 'aio2: daemonize' "$temp/daemon" || fail "the statistics do not say whose they are"
    ;;
routes)
    place
    program=$(build routes) || exit 1
    rm -f "$BUILD/routes-stats"
    in_background "$RUN" --stats="$BUILD/routes-stats" "$program" "$directory" >"$BUILD/routes-out" 2>&1 </dev/null
    [ "$status" = 0 ] || { cat "$BUILD/routes-out"; fail "the program ends with $status"; }
    cat "$BUILD/routes-stats"
    grep -qxF 'requests: 2 not made; 2 within io_submit; 2 by worker threads; 2 when the file was ready' "$BUILD/routes-stats" ||
        fail "the statistics do not say how the requests were carried out"
    ;;
inline)
    # io_submit writes to a block device that has been fast, as it reads from one.
    devices
    zram 64 || skip "no zram"
    rm -f "$BUILD/inline-stats"
    in_background "$RUN" --stats="$BUILD/inline-stats" fio --name=job --ioengine=libaio --thread=1 --filename="$device" --size=32M --bs=4k \
        --rw=randwrite --direct=1 >"$BUILD/inline-out" 2>&1 </dev/null
    [ "$status" = 0 ] || { cat "$BUILD/inline-out"; fail "fio ends with $status"; }
    cat "$BUILD/inline-stats"
    count=$(grep -o '[0-9]* within io_submit' "$BUILD/inline-stats")
    count=${count%% *}
    [ "${count:-0}" -ge 1000 ] || fail "${count:-0} of 8192 writes to zram within io_submit"
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
folder)
    # In whatever folder it is, the program runs on ours, and its children, or it is said that it does not, and not run.
    program=$(build whose) || exit 1
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    for name in 'a b' ' a  b ' "it's" 'a;b' 'a:b' 'a b:c' 'a b;c' '$LIB' 'a${ORIGIN}' $'tab\tand\nline'; do
        mkdir -p "$work/$name/bin" "$work/$name/build"
        cp "$RUN" "$work/$name/bin"
        cp -R "$LIBDIR" "$work/$name/build/lib"
        # The one beside the libraries, and one that is told where they are.
        for run in "$work/$name/bin/aio2-run" "$RUN --libdir"; do
            if [ "$run" = "$RUN --libdir" ]; then
                command=("$RUN" "--libdir=$work/$name/build/lib")
            else
                command=("$run")
            fi
            out=$("${command[@]}" "$program" 2>"$work/err")
            status=$?
            case $name in
            *:* | *' '*';'* | *'$'*)
                [ $status = 125 ] && [ -z "$out" ] || fail "in '$name' it ends with $status, and the program says: $out"
                grep -q '^aio2-run: .*--libdir' "$work/err" || fail "in '$name' it does not say what to do: $(cat "$work/err")"
                ;;
            *)
                [ $status = 0 ] && [ "$out" = ours ] || fail "in '$name' the program ends with $status and says: $out $(cat "$work/err")"
                [ ! -s "$work/err" ] || fail "in '$name' something is said: $(cat "$work/err")"
                out=$("${command[@]}" sh -c 'cd /; "$1"; exit 3' sh "$program")
                [ $? = 3 ] && [ "$out" = ours ] || fail "in '$name' a child says: $out"
                ;;
            esac
        done
    done
    # A program with such a name.
    for name in 'a=b' 'LD_PRELOAD=' 'c d' "that's"; do
        cp "$program" "$work/$name"
        [ "$("$RUN" "$work/$name" x=y)" = ours ] && [ "$(cd "$work" && PATH=$work:$PATH "$RUN" "$name")" = ours ] ||
            fail "a program with the name '$name' is not run on ours"
        rm "$work/$name"
    done
    # As it says itself.
    ln -s "$work/a:b/build/lib" "$work/link"
    [ "$("$RUN" --libdir="$work/link" "$program")" = ours ] || fail "through a symbolic link it does not work"
    # From another directory, with a path that is relative to it; one that shells would take for something else.
    (cd "$work/a b" && [ "$(CDPATH=/ "$RUN" --libdir=build/lib "$program")" = ours ]) || fail "with a relative path it does not work"
    ;;
cannot)
    # One line if the program cannot be helped, and it is run all the same; else none.
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    chmod 755 "$work"
    cat >"$work/own.c" <<'END'
/* own setup|uring|none: reaches the kernel by an instruction of its own. */
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static long call(long nr, long a, long b)
{
#if defined(__x86_64__)
    long ret;

    __asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b) : "rcx", "r11", "memory");
    return ret;
#else
    register long x8 __asm__("x8") = nr;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;

    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1) : "memory");
    return x0;
#endif
}

int main(int argc, char **argv)
{
    static char parameters[120];
    unsigned long ctx = 0;
    long ret = 0;

    if (argc > 1 && strcmp(argv[1], "setup") == 0)
        ret = call(SYS_io_setup, 4, (long)&ctx);
    if (argc > 1 && strcmp(argv[1], "uring") == 0) {
        ret = call(SYS_io_uring_setup, 4, (long)parameters);
        if (ret >= 0 && mmap(NULL, 4096, PROT_READ, MAP_SHARED, (int)ret, 0) != MAP_FAILED)
            ret = 0;
    }
    if (argc > 2)
        _exit(ret < 0 ? 77 : 7);
    return ret < 0 ? 77 : 7;
}
END
    "$CC" -o "$work/own" "$work/own.c" || fail "cannot compile"
    "$CC" -o "$work/with-libaio" "$work/own.c" -Wl,--no-as-needed -laio || fail "cannot compile"
    says() { # STATUS EXPRESSION COMMAND...: it ends with this status, and says this, and nothing else; '' is nothing
        local status=$1 expression=$2
        shift 2
        "$@" >"$work/out" 2>"$work/err"
        got=$?
        [ $got != 77 ] || { echo "not here: $*"; return; }
        [ $got = "$status" ] || fail "$*: ends with $got: $(cat "$work/err")"
        if [ -z "$expression" ]; then
            [ ! -s "$work/err" ] || fail "$*: says $(cat "$work/err")"
        else
            [ "$(wc -l <"$work/err")" = 1 ] || fail "$*: says $(cat "$work/err")"
            grep -q "^aio2-run: .*$expression" "$work/err" || fail "$*: says $(cat "$work/err")"
        fi
    }
    says 7 '' "$RUN" "$work/own" none
    says 7 'own .*instructions of its own' "$RUN" "$work/own" setup
    says 7 'own .*instructions of its own' "$RUN" "$work/own" setup _exit
    says 7 'own .*io_uring' "$RUN" "$work/own" uring
    says 7 'with-libaio made no AIO context' "$RUN" "$work/with-libaio" none
    says 7 'with-libaio made no AIO context' "$RUN" sh -c 'exec "$1"' sh "$work/with-libaio"
    says 7 '' "$RUN" --quiet "$work/own" setup
    says 7 '' "$RUN" --quiet "$work/with-libaio" none
    says 7 'own made no AIO context' "$RUN" --stats "$work/own" none
    says 7 '' "$RUN" --stats="$work/file" "$work/own" none
    # A child is not our subject; the fate of a daemon is not known.
    says 0 '' "$RUN" sh -c '"$1"; true' sh "$work/with-libaio"
    program=$(build daemonize) || exit 1
    mkdir "$work/daemon"
    says 0 '' "$RUN" "$program" "$work/daemon"
    for _ in $(seq 600); do
        [ -e "$work/daemon/daemon-done" ] && break
        sleep 0.1
    done
    # One that is helped.
    program=$(build whose) || exit 1
    says 0 '' "$RUN" "$program"
    # Before it begins: statically linked, or for another machine; also what interprets a script, and found by PATH.
    if "$CC" -static -o "$work/static" "$work/own.c" 2>/dev/null; then
        says 7 'static is statically linked' "$RUN" "$work/static"
        says 7 '' "$RUN" --quiet "$work/static"
        PATH=$work:$PATH says 7 'static is statically linked' "$RUN" static
        printf '#! %s none\n' "$work/static" >"$work/script"
        chmod 755 "$work/script"
        says 7 'static is statically linked' "$RUN" "$work/script"
    fi
    if "$CC" -static-pie -o "$work/static-pie" "$work/own.c" 2>/dev/null; then
        says 7 'static-pie is statically linked' "$RUN" "$work/static-pie"
    fi
    says 0 '' "$RUN" "$(readelf -lW "$work/own" | sed -n 's/.*program interpreter: \(.*\)]/\1/p')" --version
    # A name that does something to a terminal.
    cp "$work/with-libaio" "$work/"$'with\e[31m\nline'
    says 7 'with?\[31m?line made' "$RUN" "$work/"$'with\e[31m\nline'
    ! "$RUN" $'--\e[31m' 2>"$work/err" || fail "takes an option that there is not"
    ! grep -q $'\e' "$work/err" || fail "prints an escape sequence"
    # Whose standard error is gone, or somebody else's by now, or a pipe that nobody reads.
    says 7 '' "$RUN" sh -c 'exec 2>&-; exec "$1"' sh "$work/with-libaio"
    mkfifo "$work/pipe"
    exec 7<>"$work/pipe" 8>"$work/pipe" 7>&-
    "$RUN" "$work/with-libaio" 2>&8
    got=$?
    exec 8>&-
    [ $got = 7 ] || fail "with a pipe that nobody reads it ends with $got"
    # With more rights than the user has.
    [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null || exit 0
    cp -R "$LIBDIR" "$work/lib"
    cp "$RUN" "$work/aio2-run"
    chmod -R a+rX "$work"
    nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups sh -c 'cd /; exec "$@"' sh "$work/aio2-run" "--libdir=$work/lib")
    install -m 4755 "$work/own" "$work/set-user-id"
    install -m 2755 "$work/own" "$work/set-group-id"
    says 7 'is set-user-ID' "${nobody[@]}" "$work/set-user-id"
    says 7 'is set-group-ID' "${nobody[@]}" "$work/set-group-id"
    # Where these bits give no rights they are in no one's way.
    says 7 '' "$RUN" "$work/set-user-id"
    says 7 '' setpriv --no-new-privs "${nobody[@]}" "$work/set-user-id"
    install -m 755 "$work/own" "$work/capability"
    if command -v getcap >/dev/null && setcap cap_net_raw+ep "$work/capability" 2>/dev/null; then
        says 7 'has file capabilities' "${nobody[@]}" "$work/capability"
        says 7 '' "$RUN" "$work/capability"
    fi
    # One that may be run and not read.
    chmod 4711 "$work/set-user-id"
    says 7 'is set-user-ID' "${nobody[@]}" "$work/set-user-id"
    ;;
planted)
    # --stats in a directory where others can put something at the name that the file will have.
    need setpriv
    need_root
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    mkdir "$work/open"
    chmod 755 "$work"
    chmod 1777 "$work/open"
    echo precious >"$work/victim"
    cat >"$work/child.c" <<'END'
/* A child that reads: its statistics go to the file. */
#include <fcntl.h>
#include <libaio.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    static char buffer[4];
    struct iocb iocb, *list[1] = { &iocb };
    struct io_event event;
    io_context_t ctx = NULL;
    int status;

    if (fork() != 0)
        return wait(&status) < 0 || status != 0;
    io_prep_pread(&iocb, open(argv[argc - 1], O_RDONLY), buffer, 4, 0);
    return io_setup(1, &ctx) != 0 || io_submit(ctx, 1, list) != 1 || io_getevents(ctx, 1, 1, &event, NULL) != 1 || (long)event.res != 4;
}
END
    "$CC" -o "$work/child" "$work/child.c" -laio || fail "cannot compile"
    other=(setpriv --reuid=65534 --regid=65534 --clear-groups)
    for what in nothing link pipe file; do
        # The process's number is known before it runs: sh becomes aio2-run.
        # shellcheck disable=SC2016
        (cd "$work/open" && timeout 20 sh -c '
            at=$2/open/aio2-stats.$$
            what=$1 work=$2 run=$3
            shift 3
            case $what in
            link) "$@" ln -s "$work/victim" "$at" ;;
            pipe) "$@" mkfifo "$at" ;;
            file) "$@" sh -c ": >\"\$1\"" sh "$at" ;;
            esac
            exec "$run" --stats "$work/child" "$work/victim"' sh $what "$work" "$RUN" "${other[@]}" >"$work/out" 2>"$work/err") ||
            fail "$what: it ends with $?"
        [ "$(cat "$work/victim")" = precious ] || fail "$what: the victim has it"
        found=$(find "$work/open" -type f -size +0 -printf '%U %m')
        if [ $what = nothing ]; then
            [ "$found" = '0 600' ] || fail "without anything there, the file's owner and mode are: $found"
            ! grep -q 'no statistics' "$work/err" || fail "it says that there are none: $(cat "$work/err")"
        else
            [ -z "$found" ] || fail "$what: a file of somebody else's has it"
            grep -q 'no statistics' "$work/err" || fail "$what: it does not say that there are none: $(cat "$work/err")"
        fi
        rm -f "$work/open"/*
    done
    ;;
esac
