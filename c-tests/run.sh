#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Builds and runs the C tests: every c-tests/*/*.c is a program, every c-tests/*/*.sh a script;
# there is no list to maintain. A test ends with 0 (passed), 1 (failed) or 77 (skipped).
#
#     run.sh [NAME...]        runs all tests, or only these: by name without the folder, by a pattern ('cancel*'),
#                             by folder ('cancel/', 'attr/*cache*'), or by path
#     run.sh --list [NAME...] prints their names with folders, and runs nothing
#
# long_* run only if LONG is 1, or if a NAME begins with long_.
#
# Environment:
#     LIBDIR        directory with libaio2.so and libaio2.so.0 (required)
#     HOOKS_LIBDIR  the same for the build with test hooks; without it hook_* are skipped
#     CC            compiler (default: cc)        CFLAGS   more flags
#     BUILD         where output goes (default: build/c-tests)
#     PROGRAMS      where programs go (default: BUILD); several runs at the same time may share them
#     FEWER         divides the rounds of stress tests
#     WRAPPER       command to run each program under, e.g. "valgrind --error-exitcode=99"
#     TIME_FACTOR   multiplies the time limits (for a WRAPPER that slows programs down)
#
# The runner knows these lines near the top of a test:
#     /* time limit: 600 s */     instead of 1000 (in a script: # time limit: 600 s)
#     /* needs: root */           skipped for other users
#     /* needs: kernel AIO */     skipped if AIO2_ENGINE excludes the kernel's AIO
#     /* needs: kernel queue */   skipped if AIO2_ENGINE excludes the kernel's AIO and io_uring
#     /* needs: readiness */      skipped if AIO2_ENGINE excludes readiness, the epoll in which requests wait
#     /* with any engine the same */   left out of a run of all tests if AIO2_ENGINE chooses an engine

set -u
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")

fail() {
    echo "run.sh: $*" >&2
    exit 1
}

# ---- Which tests -----------------------------------------------------------------------------------

list=
if [ "${1:-}" = --list ]; then
    list=1
    shift
fi

tests=() # FOLDER/NAME of each
declare -A path
for file in "$here"/*.c "$here"/*.sh "$here"/*/*.c "$here"/*/*.sh; do
    name=${file##*/}
    case ${file#"$here"/} in
    run.sh | *'*'*) continue ;;
    */*) ;;
    *) fail "$name has no folder" ;;
    esac
    name=${name%.*}
    [ -z "${path[$name]:-}" ] || fail "there are two tests named $name"
    path[$name]=$file
    file=${file#"$here"/}
    tests+=("${file%.*}")
done

chosen=()
for pattern in "${@:-*}"; do
    pattern=${pattern##*c-tests/}
    pattern=${pattern#./}
    case $pattern in
    *.h | *.supp) continue ;; # a shell has made a list of a folder
    */) pattern+='*' ;;
    *.c) pattern=${pattern%.c} ;;
    *.sh) pattern=${pattern%.sh} ;;
    esac
    found=
    for test in "${tests[@]}"; do
        # A name without a folder matches in every folder.
        name=$test
        [[ $pattern == */* ]] || name=${test##*/}
        # shellcheck disable=SC2053 # patterns are meant
        [[ $name == $pattern ]] || continue
        found=1
        [[ ${test##*/} != long_* || ${pattern##*/} == long_* || ${LONG:-0} = 1 ]] || continue
        # Left out only if all tests run.
        [ $# -gt 0 ] || [ -z "${AIO2_ENGINE:-}" ] || ! head -n 15 "$here/$test".* | grep -q 'with any engine the same' || continue
        chosen+=("$test")
    done
    [ -n "$found" ] || fail "no test named $pattern"
done
if [ -n "$list" ]; then
    printf '%s\n' ${chosen[@]+"${chosen[@]}"}
    exit 0
fi

# ---- Running them ----------------------------------------------------------------------------------

CC=${CC:-cc}
BUILD=${BUILD:-$root/build/c-tests}
: "${LIBDIR:?directory that holds libaio2.so and libaio2.so.0}"
LIBDIR=$(cd "$LIBDIR" && pwd) || exit 1
if [ -n "${HOOKS_LIBDIR:-}" ]; then
    HOOKS_LIBDIR=$(cd "$HOOKS_LIBDIR" && pwd) || exit 1
fi
for dir in "$LIBDIR" ${HOOKS_LIBDIR:+"$HOOKS_LIBDIR"}; do
    for file in libaio2.so libaio2.so.0; do
        [ -e "$dir/$file" ] || fail "$dir/$file is missing"
    done
done
PROGRAMS=${PROGRAMS:-$BUILD}
mkdir -p "$BUILD" "$PROGRAMS" || exit 1
BUILD=$(cd "$BUILD" && pwd) || exit 1
PROGRAMS=$(cd "$PROGRAMS" && pwd) || exit 1
# Exported for tests that are scripts.
export CC BUILD LIBDIR SRCDIR="$here" INCLUDE="$root/include" HOOKS_LIBDIR="${HOOKS_LIBDIR:-}"

flags=(-std=c11 -O2 -g -D_GNU_SOURCE -Wall -Wextra -Wpedantic -Werror -I"$root/include" -I"$here")
read -r -a more <<<"${CFLAGS:-}"
# RUNPATH, not RPATH, so that LD_LIBRARY_PATH can choose the build with test hooks.
libs=(-L"$LIBDIR" -Wl,--enable-new-dtags -Wl,-rpath,"$LIBDIR" -laio2 -lpthread)
read -r -a wrapper <<<"${WRAPPER:-}"

# If the compiler or the flags have changed, all programs are built again.
stamp="$CC ${flags[*]} ${more[*]:-} ${libs[*]}"
exec 9>"$PROGRAMS/.lock"
flock 9
if [ "$(cat "$PROGRAMS/.flags" 2>/dev/null)" != "$stamp" ]; then
    rm -f "$PROGRAMS"/*.test
    printf '%s\n' "$stamp" >"$PROGRAMS/.flags"
fi
exec 9>&-

group=
trap '[ -z "$group" ] || kill -KILL -- "-$group" 2>/dev/null; exit 130' INT TERM

passed=0
failed=0
skipped=0

# report STATUS NAME SECONDS [FILE]: prints one line, and below it the test's output from FILE.
report() {
    printf '%-4s %s %s\n' "$1" "$2" "$3"
    if [ -n "${4:-}" ] && [ -s "$4" ]; then
        sed 's/^/     | /' "$4"
    fi
    case $1 in
    ok) passed=$((passed + 1)) ;;
    SKIP) skipped=$((skipped + 1)) ;;
    *) failed=$((failed + 1)) ;;
    esac
}

build() { # SOURCE PROGRAM OUTPUT
    local input current=1
    for input in "$1" "$here"/*.h "$(dirname "$1")"/*.h "$root/include/aio2.h"; do
        [ "$2" -nt "$input" ] || current=0
    done
    [ "$current" = 0 ] || return 0
    "$CC" "${flags[@]}" ${more[@]+"${more[@]}"} -o "$2.$$" "$1" "${libs[@]}" >"$3" 2>&1 && mv -f "$2.$$" "$2"
}

run_one() { # NAME
    local name=$1 source=${path[$1]} output=$BUILD/$1.out needs program limit began status seconds command library_path
    : >"$output"

    if [[ $source == *.c ]]; then
        program=$PROGRAMS/$name.test
        if ! build "$source" "$program" "$output"; then
            report FAIL "$name" 0.000 "$output"
            return
        fi
        command=(${wrapper[@]+"${wrapper[@]}"} "$program")
    else
        command=(bash "$source")
    fi

    if [ "$(id -u)" != 0 ] && head -n 15 "$source" | grep -q 'needs: root'; then
        echo "SKIPPED: needs root" >"$output"
        report SKIP "$name" 0.000 "$output"
        return
    fi
    case ${AIO2_ENGINE:-} in
    threads) needs='needs: (kernel (AIO|queue)|readiness)' ;;
    uring) needs='needs: kernel AIO' ;;
    *) needs= ;;
    esac
    if [ -n "$needs" ] && head -n 15 "$source" | grep -qE "$needs"; then
        echo "SKIPPED: AIO2_ENGINE=$AIO2_ENGINE" >"$output"
        report SKIP "$name" 0.000 "$output"
        return
    fi
    library_path=${LD_LIBRARY_PATH:-}
    if [[ $name == hook_* ]]; then
        if [ -z "$HOOKS_LIBDIR" ]; then
            echo "SKIPPED: needs the build with test hooks (HOOKS_LIBDIR)" >"$output"
            report SKIP "$name" 0.000 "$output"
            return
        fi
        library_path=$HOOKS_LIBDIR
    fi

    limit=$(head -n 15 "$source" | sed -n 's/.*time limit: *\([0-9][0-9]*\) s.*/\1/p' | head -n 1)
    limit=$((${limit:-1000} * ${TIME_FACTOR:-1}))
    began=$(date +%s%N)
    # The program's own alarm comes first and says where the program hung. timeout(1) leads a new process group. The rest
    # of the group is killed, so that a failed test does not disturb the next.
    TEST_TIME_LIMIT=$limit LD_LIBRARY_PATH=$library_path env --default-signal=INT,QUIT \
        timeout --kill-after=5 $((limit + 5)) "${command[@]}" >"$output" 2>&1 </dev/null &
    group=$!
    wait "$group"
    status=$?
    kill -KILL -- "-$group" 2>/dev/null
    group=
    seconds=$((($(date +%s%N) - began) / 1000000))
    seconds=$(printf '%d.%03d' $((seconds / 1000)) $((seconds % 1000)))
    case $status in
    0) report ok "$name" "$seconds" ;;
    77)
        # A skipped test must say why. If it does not, it has failed.
        if grep -q '^SKIPPED: ' "$output"; then
            report SKIP "$name" "$seconds" "$output"
        else
            echo "exit code 77 without a reason" >>"$output"
            report FAIL "$name" "$seconds" "$output"
        fi
        ;;
    124 | 137)
        echo "killed at the time limit of $limit s" >>"$output"
        report FAIL "$name" "$seconds" "$output"
        ;;
    *)
        echo "exit code $status" >>"$output"
        report FAIL "$name" "$seconds" "$output"
        ;;
    esac
}

for test in ${chosen[@]+"${chosen[@]}"}; do
    run_one "${test##*/}"
done

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
