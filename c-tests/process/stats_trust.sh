#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# AIO2_STATS does no harm: a set-user-ID, set-group-ID or file-capability program ignores it, and the test hooks, too. The file that it names is
# written only if it is new or a regular file of the user's own: not a link, a pipe, a file of others, nor a file with another name. Only
# its owner can read it. A path that somebody has chosen cannot look like another line. If the program has its own file in the place of
# standard error, nothing is written there. The variable does not change the end of a process.
# needs: root

set -u
fail=0
wrong() {
    echo "$*"
    fail=1
}
command -v setpriv >/dev/null || { echo "SKIPPED: there is no setpriv"; exit 77; }

# In a directory that others can look into, with the library beside it.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
mkdir "$work/lib" "$work/hooks" "$work/open"
chmod 1777 "$work/open"
cp -L "$LIBDIR"/libaio2.so.0 "$work/lib"
[ -z "$HOOKS_LIBDIR" ] || cp -L "$HOOKS_LIBDIR"/libaio2.so.0 "$work/hooks"

# program FILE [stderr|aio2]: one read by a function of libaio's. stderr: with a file of its own in standard error's place. aio2: a request of ours.
cat >"$work/program.c" <<'END'
#include <aio2.h>
#include <aio2/libaio.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    static char buffer[64];
    struct iocb iocb, *list[1] = { &iocb };
    struct io_event event;
    io_context_t ctx = NULL;
    int fd = open(argv[1], O_RDONLY);

    if (fd < 0)
        return 2;
    if (argc > 3) {
        close(2);
        if (open(argv[3], O_WRONLY | O_CREAT | O_APPEND, 0600) != 2)
            return 3;
    }
    if (argc == 3 && strcmp(argv[2], "aio2") == 0) {
        io_context2_t own = NULL;
        struct iocb2 nop;

        io_prep2_nop(&nop);
        if (io_setup2(IO_SETUP2_VERSION, NULL, &own) != 0 || io_submit2(own, &nop, nop.bytes) < 0)
            return 4;
        return 0;
    }
    io_prep_pread(&iocb, fd, buffer, 4, 0);
    if (io_setup(1, &ctx) != 0 || io_submit(ctx, 1, list) != 1 || io_getevents(ctx, 1, 1, &event, NULL) != 1)
        return 5;
    return (long)event.res != 4;
}
END
for variant in lib hooks; do
    [ -e "$work/$variant/libaio2.so.0" ] || continue
    "$CC" -D_GNU_SOURCE -I"$INCLUDE" -o "$work/program-$variant" "$work/program.c" -L"$work/$variant" -l:libaio2.so.0 \
        -Wl,--enable-new-dtags -Wl,-rpath,"$work/$variant" || exit 1
done
program=$work/program-lib
echo content >"$work/file"
chmod 644 "$work/file"

nobody() {
    timeout 20 setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
}
# What nobody asks for is written, where it may.
nobody env AIO2_STATS="$work/open/control" "$program" "$work/file" || wrong "the program does not work: $?"
grep -q "^$work/file" "$work/open/control" || wrong "no statistics are written at all: the rest shows nothing"
[ "$(stat -c '%a %u' "$work/open/control")" = '600 65534' ] || wrong "a new file has the mode and owner $(stat -c '%a %u' "$work/open/control")"
nobody env AIO2_STATS="$work/open/control" "$program" "$work/file"
[ "$(grep -c '^--- aio2' "$work/open/control")" = 2 ] || wrong "nothing is added to one's own file"

# ---- More rights than the user has ----
install -m 4755 "$program" "$work/set-user-id"
install -m 2755 "$program" "$work/set-group-id"
install -m 755 "$program" "$work/capability"
kinds="set-user-id set-group-id"
if command -v setcap >/dev/null && setcap cap_dac_override+ep "$work/capability" 2>/dev/null; then
    kinds+=" capability"
else
    echo "no file capabilities here"
fi
for kind in $kinds; do
    nobody env AIO2_STATS="$work/open/$kind.out" "$work/$kind" "$work/file" || wrong "$kind: it ends with $?"
    [ ! -e "$work/open/$kind.out" ] || wrong "a $kind program writes a file: $(ls -l "$work/open/$kind.out")"
    nobody env AIO2_STATS="$work/protected.$kind" "$work/$kind" "$work/file"
    [ ! -e "$work/protected.$kind" ] || wrong "a $kind program writes a file where its user cannot: $(ls -l "$work/protected.$kind")"
    # shellcheck disable=SC2016
    out=$(nobody sh -c 'AIO2_STATS=x AIO2_STATS_PID=$$ exec "$@"' sh "$work/$kind" "$work/file" 2>&1)
    [ -z "$out" ] || wrong "a $kind program says: $out"
done
if [ -e "$work/program-hooks" ]; then
    install -m 4755 "$work/program-hooks" "$work/hooks-set-user-id"
    nobody env AIO2_HOOK_PANIC=submit "$work/program-hooks" "$work/file" aio2 >/dev/null 2>&1 && wrong "the hook does nothing: this shows nothing"
    nobody env AIO2_HOOK_PANIC=submit "$work/hooks-set-user-id" "$work/file" aio2 || wrong "a set-user-ID program with hooks listens to them: $?"
fi

# ---- What somebody else has put there ----
victim=$work/victim
echo precious >"$victim"
chmod 644 "$victim"
at=$work/open/planted
as_root() { # WHAT: with that at the place
    timeout 20 env AIO2_STATS="$at" "$program" "$work/file" 2>"$work/err" || wrong "$1: it ends with $?"
    [ "$(cat "$victim")" = precious ] || { wrong "$1: the victim has it"; echo precious >"$victim"; }
    grep -q 'no statistics' "$work/err" || wrong "$1: it does not say that there are none"
    rm -f "$at"
}
nobody ln -s "$victim" "$at"
as_root "a symbolic link"
nobody ln -s "$work/not-there" "$at"
as_root "a symbolic link to nothing"
[ ! -e "$work/not-there" ] || wrong "a symbolic link to nothing: it is something now"
nobody mkfifo "$at"
as_root "a pipe without a reader"
nobody mkfifo "$at"
exec 7<>"$at"
as_root "a pipe with a reader"
! read -r -t 0 -u 7 || wrong "a pipe gets it"
exec 7>&-
ln "$victim" "$at"
as_root "a second name of a file"
nobody sh -c "umask 0; : >'$at'"
as_root "a file of somebody else's"
mknod "$at" c 1 3
as_root "a device"

# ---- Names ----
# shellcheck disable=SC1003
for name in $'line\n--- aio2: forged (process 1), 1.0s since its first context\n' $'\e[31mred\a' $'\x9b31m' $'back\\slash' $'\xe2\x80\xaeright to left'; do
    mkdir -p "$work/names"
    cp "$work/file" "$work/names/$name"
    ln -sf "$program" "$work/names/program$name"
    for to in file stderr; do
        rm -f "$work/out"
        if [ $to = file ]; then
            AIO2_STATS=$work/out "$work/names/program$name" "$work/names/$name" || wrong "it ends with $?"
        else
            # shellcheck disable=SC2016
            sh -c 'AIO2_STATS=$1 AIO2_STATS_PID=$$ exec "$2" "$3"' sh "$work/not" "$work/names/program$name" "$work/names/$name" 2>"$work/out"
        fi
        # In what is printed there is nothing but these, and each line is one of ours.
        ! LC_ALL=C grep -q '[^ -~]' "$work/out" || wrong "of a name, as it is, to $to: $(cat -v "$work/out")"
        [ "$(grep -c '^--- aio2' "$work/out")" = 1 ] || wrong "a name makes a line, to $to: $(cat -v "$work/out")"
        grep -q "^$work/names/" "$work/out" || wrong "the name is lost: $(cat -v "$work/out")"
    done
    rm -rf "$work/names"
done

# ---- Standard error ----
# shellcheck disable=SC2016
main='AIO2_STATS=$1 AIO2_STATS_PID=$$; export AIO2_STATS AIO2_STATS_PID; shift; exec "$@"'
sh -c "$main" sh "$work/instead" "$program" "$work/file" stderr "$work/own" 2>"$work/err" || wrong "with a file of its own it ends with $?"
[ ! -s "$work/own" ] || wrong "a file of the program's gets it: $(cat "$work/own")"
grep -q "^$work/file" "$work/instead" || wrong "standard error is gone, and the statistics with it"
mkfifo "$work/pipe"
exec 7<>"$work/pipe" 8>"$work/pipe" 7>&-
sh -c "$main" sh "$work/not" "$program" "$work/file" 2>&8 || wrong "a pipe that nobody reads: it ends with $?"
(
    trap '' XFSZ
    trap - XFSZ
    ulimit -f 0
    AIO2_STATS=$work/limited "$program" "$work/file"
) || wrong "a file that may not grow: it ends with $?"
exit $fail
