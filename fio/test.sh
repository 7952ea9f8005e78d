#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Tests of the fio engine:  fio/test.sh [ENGINE]
#
# Without an argument the engine of this tree is built first. As root it tests on zram and loop devices of its own, else
# on a file. It prints a line for each test and closes with their number; it fails if one failed. Every device,
# mount, file and process is gone afterwards, also after Ctrl-C. ONLY=PATTERN: only the tests with such names.

set -u

here=$(cd "$(dirname "$0")" && pwd)
engine=${1:-}
. "$here/devices.sh"

passed=0 failed=0 skipped=0
only=${ONLY:-}

ok() {
    passed=$((passed + 1))
    echo "ok   $1"
}

bad() {
    failed=$((failed + 1))
    echo "FAIL $1${2:+: $2}"
    [ ! -s "$temp/out" ] || tail -n 30 "$temp/out" | sed 's/^/     | /'
}

skip() {
    skipped=$((skipped + 1))
    echo "SKIP $1: $2"
}

# Whether a test is wanted.
wanted() {
    # shellcheck disable=SC2053 # a pattern is meant
    [ -z "$only" ] || [[ $1 == $only ]]
}

# Runs fio with the engine and what all jobs have in common; sets $status, leaves what it printed in $temp/out.
fio_job() {
    in_background timeout -k 5 "${limit:-60}" "${before[@]}" fio --ioengine=external:"$engine" --name=job --thread=0 --group_reporting \
        --randrepeat=1 --bs=4k "$@" >"$temp/out" 2>&1 </dev/null
    if [ "$status" -ge 124 ] && [ "$status" -ne 128 ]; then
        kill_ours
    fi
}
before=()

# The number of issued requests of a kind (1 read, 2 write, 3 trim, 4 sync) in what fio printed.
issued() {
    local n
    n=$(sed -n 's/^ *issued rwts: total=\([0-9,]*\).*/\1/p' "$temp/out" | cut -d, -f"$1")
    echo "${n:-0}"
}

# The value of KEY= in the engine's report.
reported() {
    sed -n "s/^ *aio2.*[ ,]$1=\([0-9.]*\).*/\1/p" "$temp/out" | head -n 1
}

# Fails with a message, for a check after a run that is otherwise good.
fault=
fault() {
    [ -n "$fault" ] || fault=$1
}

# NAME ARGS: the job must succeed. More checks may follow in the function `checks`.
expect_success() {
    local name=$1
    shift
    wanted "$name" || return 0
    fio_job "$@"
    fault=
    [ "$status" -eq 0 ] || fault "exit status $status"
    # Whatever fio says of an error, or the engine of something that should not be; the engine's reports are indented.
    ! grep -q "^fio: pid=\|^fio: io_u\|^aio2: \|verify: \|came back without" "$temp/out" || fault "it complains"
    checks
    if [ -z "$fault" ]; then ok "$name"; else bad "$name" "$fault"; fi
    checks() { :; }
}
checks() { :; }

# Writes and reads what they should, verified: for a job of $1 blocks in all.
wrote_and_read() {
    [ "$(issued 1)" -gt 0 ] || fault "no reads"
    [ "$(issued 2)" -gt 0 ] || fault "no writes"
    # Every block written in the first phase is read back in the second.
    [ "$(issued 1)" -ge "$1" ] || fault "only $(issued 1) reads: nothing was verified"
}

# ---- Preparation ----

command -v fio >/dev/null || { echo "test.sh: fio is not installed" >&2; exit 1; }
devices_begin
if [ -z "$engine" ]; then
    engine=$(dirname "$here")/build/fio/aio2-engine.so
    if in_background env -u MAKEFLAGS make -s -C "$here" OUT="$engine" >"$temp/out" 2>&1 && [ "$status" -eq 0 ]; then
        ok build
    else
        bad build "make -C fio"
        echo "$passed passed, $failed failed, $skipped skipped"
        exit 1
    fi
fi
[ -e "$engine" ] || { echo "test.sh: no engine $engine" >&2; exit 1; }
engine=$(cd "$(dirname "$engine")" && pwd)/$(basename "$engine")
# fio leaves files of its own where it runs.
cd "$temp" || exit 1

root=yes
if [ "$(id -u)" -ne 0 ]; then
    root=no
    cat <<'TEXT'
*************************************************************************
 NOT ROOT: no zram, no loop device and no file system are made.
 What is skipped below is not tested; what runs, runs on a file.
*************************************************************************
TEXT
fi

zram_device= loop_device= loop_file=
if zram 256; then
    zram_device=$device
fi
if loop 256; then
    loop_device=$device
    loop_file=$device_file
fi
why_not() {
    if [ $root = no ]; then echo "needs root"; else echo "no $1 device can be made here"; fi
}

# Where the tests go that do not depend on the kind of device.
target=${zram_device:-${loop_device:-$temp/file}}
if [ "$target" = "$temp/file" ]; then
    truncate -s 256M "$target"
    # Not every file system has O_DIRECT.
    direct=0
    ! dd if="$target" of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null || direct=1
else
    direct=1
fi

on_target=(--filename="$target" --direct="$direct")
verified=(--rw=randrw --verify=crc32c --verify_fatal=1 --size=16m)

# ---- Devices, depths, ways to reap ----

on_device() {
    local kind=$1 path=$2 depth reap name
    for depth in 1 32 256; do
        for reap in 0 1; do
            name="$kind-depth-$depth-$([ $reap = 1 ] && echo ring || echo call)"
            wanted "$name" || continue
            if [ -z "$path" ]; then
                skip "$name" "$(why_not "$kind")"
                continue
            fi
            checks() { wrote_and_read 4096; }
            expect_success "$name" "${verified[@]}" --filename="$path" --direct=$direct --iodepth=$depth --userspace_reap=$reap
        done
    done
}

on_device zram "$zram_device"
on_device loop "$loop_device"
if [ "$target" = "$temp/file" ]; then
    on_device file "$target"
fi

# What the engine writes, fio's own engine must find, and the other way round: an engine that is wrong in the same
# way at both would find its own blocks good.
for writer in aio2 psync; do
    name="written-by-$writer"
    wanted "$name" || continue
    both=(fio --name=job "${on_target[@]}" "${verified[@]}" --bs=4k --rw=write)
    psync=("${both[@]}" --ioengine=psync)
    aio2=("${both[@]}" --ioengine="external:$engine" --iodepth=32)
    # Zeros, so that the blocks of a test before this one are not found good.
    dd if=/dev/zero of="$target" bs=1M count=16 conv=notrunc 2>/dev/null
    if [ $writer = aio2 ]; then
        in_background timeout -k 5 60 "${aio2[@]}" --do_verify=0 >"$temp/out" 2>&1 </dev/null
        first=$status
        in_background timeout -k 5 60 "${psync[@]}" --verify_only=1 >"$temp/out" 2>&1 </dev/null
    else
        in_background timeout -k 5 60 "${psync[@]}" --do_verify=0 >"$temp/out" 2>&1 </dev/null
        first=$status
        in_background timeout -k 5 60 "${aio2[@]}" --verify_only=1 >"$temp/out" 2>&1 </dev/null
    fi
    if [ "$first" -eq 0 ] && [ "$status" -eq 0 ] && [ "$(issued 1)" -eq 4096 ]; then
        ok "$name"
    else
        bad "$name" "exit statuses $first, $status"
    fi
done

# ---- Options ----

for reap in 0 1; do
    how=$([ $reap = 1 ] && echo ring || echo call)

    checks() { wrote_and_read 4096; }
    expect_success "eventfd-$how" "${on_target[@]}" "${verified[@]}" --iodepth=32 --userspace_reap=$reap --eventfd=1

    checks() { wrote_and_read 4096; }
    expect_success "one-worker-$how" "${on_target[@]}" "${verified[@]}" --iodepth=32 --userspace_reap=$reap --workers=1

    checks() { wrote_and_read 4096; }
    expect_success "batches-$how" "${on_target[@]}" "${verified[@]}" --iodepth=64 --iodepth_batch=16 \
        --iodepth_batch_complete_min=8 --iodepth_batch_complete_max=32 --userspace_reap=$reap

    # 64 requests for a context that takes 8: most submits are accepted in part or refused.
    checks() { wrote_and_read 4096; }
    expect_success "refused-$how" "${on_target[@]}" "${verified[@]}" --iodepth=64 --iodepth_batch=64 \
        --iodepth_batch_complete_min=48 --max_requests=8 --userspace_reap=$reap

    # All of a deep batch completes while fio verifies its first blocks: far more than fits into a page.
    for wait in 0 1; do
        checks() {
            wrote_and_read 2048
            [ "$(reported overflowed || :)" ] || fault "no event overflowed"
        }
        expect_success "overflow-$how-$([ $wait = 1 ] && echo eventfd || echo wait)" "${on_target[@]}" "${verified[@]}" --bs=16k --size=32m \
            --verify=sha512 --iodepth=256 --iodepth_batch=256 --iodepth_batch_complete_min=200 \
            --ring_bytes=4096 --timing=1 --userspace_reap=$reap --eventfd=$wait
    done
done

checks() { wrote_and_read 16384; }
expect_success "deepest" "${on_target[@]}" "${verified[@]}" --size=64m --iodepth=2048 --userspace_reap=1

# Engine options in a job file.
wanted job-file && {
    cat >"$temp/job.fio" <<JOB
[global]
ioengine=external:$engine
filename=$target
direct=$direct
rw=randrw
bs=4k
size=8m
iodepth=16
verify=crc32c
[first]
userspace_reap=1
timing=1
[second]
stonewall
ring_bytes=8k
workers=2
timing=0
JOB
    in_background timeout -k 5 60 fio "$temp/job.fio" >"$temp/out" 2>&1 </dev/null
    if [ "$status" -eq 0 ] && [ "$(grep -c 'aio2 timing: first' "$temp/out")" -eq 1 ] &&
        ! grep -q 'aio2 timing: second' "$temp/out"; then
        ok job-file
    else
        bad job-file "exit status $status"
    fi
}

# ---- Threads and processes ----

for thread in 0 1; do
    checks() {
        wrote_and_read 4096
        [ "$(sed -n 's/^job: (groupid=0, jobs=\([0-9]*\)).*/\1/p' "$temp/out")" = 4 ] || fault "not 4 jobs"
        [ "$(grep -c 'aio2 timing: job' "$temp/out")" = 4 ] || fault "not a report from each job"
    }
    expect_success "four-$([ $thread = 1 ] && echo threads || echo processes)" "${on_target[@]}" "${verified[@]}" --thread=$thread --numjobs=4 \
        --size=4m --offset_increment=4m --iodepth=32 --userspace_reap=1 --timing=1
done

if wanted offloaded-submits; then
    fio_job "${on_target[@]}" --rw=read --size=1m --io_submit_mode=offload
    if [ "$status" -eq 1 ] && grep -q "aio2: can't be used with offloaded submit" "$temp/out"; then
        ok offloaded-submits
    else
        bad offloaded-submits "exit status $status"
    fi
fi

checks() { [ "$(issued 1)" -eq 4096 ] || fault "$(issued 1) reads"; }
expect_success "asynchronous-verify" "${on_target[@]}" "${verified[@]}" --rw=write --iodepth=32 --verify_async=2 --userspace_reap=1

# ---- fsync and its relatives ----

file_system=
if [ $root = yes ] && command -v mkfs.ext4 >/dev/null && loop 128; then
    mkdir "$temp/mount-1"
    if mkfs.ext4 -q "$device" 2>/dev/null && mount "$device" "$temp/mount-1" 2>/dev/null; then
        file_system=$temp/mount-1
        statistics=/sys/block/$(basename "$device")/stat
    fi
fi
# A field of the block device's statistics: 5 write requests, 16 flushes.
block_statistic() {
    awk -v field="$1" '{ print $field }' "$statistics"
}
for sync in fsync=8 fdatasync=8 sync_file_range=write:8; do
    for buffered in 0 1; do
        name="${sync%%=*}-$([ $buffered = 1 ] && echo buffered || echo direct)"
        wanted "$name" || continue
        if [ -z "$file_system" ]; then
            skip "$name" "$([ $root = no ] && echo "needs root" || echo "no ext4 on a loop device can be made here")"
            continue
        fi
        checks() {
            [ "$(issued 2)" -eq 1024 ] || fault "$(issued 2) writes"
            [ "$(issued 1)" -eq 1024 ] || fault "$(issued 1) reads"
            # Not from "issued": fio 3.33 counts fdatasync and sync_file_range behind the end of an array.
            syncs=$(sed -n 's/^ *aio2 timing: job: sync: requests=\([0-9]*\),.*/\1/p' "$temp/out")
            [ "${syncs:-0}" -ge 100 ] || fault "${syncs:-0} syncs"
            # And that they are what they are called can be seen at the device.
            case $name in
                f*sync-*)
                    flushes=$(($(block_statistic 16) - flushes))
                    [ $flushes -ge 20 ] || fault "$flushes flushes" ;;
                sync_file_range-buffered)
                    writes=$(($(block_statistic 5) - writes))
                    [ $writes -ge 300 ] || fault "$writes writes: not a few blocks at a time" ;;
            esac
        }
        flushes=$(block_statistic 16)
        writes=$(block_statistic 5)
        expect_success "$name" --directory="$file_system" --size=4m --rw=randwrite --verify=crc32c --verify_fatal=1 \
            --direct=$((1 - buffered)) --buffered=$buffered --iodepth=16 --timing=1 --userspace_reap=$buffered \
            --"$sync" --unlink=1
    done
done

if wanted trim; then
    if [ -z "$zram_device" ]; then
        skip trim "$(why_not zram)"
    else
        checks() { [ "$(issued 3)" -eq 1024 ] || fault "$(issued 3) trims"; }
        expect_success trim --filename="$zram_device" --direct=1 --rw=randtrim --size=4m --iodepth=16
    fi
fi

# ---- Times ----

# The mean, p50, p99 and max of a row of the report, in ns.
times() {
    sed -n "s/^ *$1 *(usec): mean=\([0-9.]*\), p50=\([0-9.]*\), p99=\([0-9.]*\), p99.9=[0-9.]*, max=\([0-9.]*\)\$/\1 \2 \3 \4/p" "$temp/out" |
        awk 'NR == 1 { printf "%d %d %d %d\n", $1 * 1000, $2 * 1000, $3 * 1000, $4 * 1000 }'
}

sane_times() {
    local row mean p50 p99 max total=0 fio
    for row in queueing device; do
        mean= p50= p99= max=
        read -r mean p50 p99 max < <(times $row)
        [ -n "$max" ] || { fault "no $row times"; return; }
        [ "$max" -gt 0 ] || fault "$row: nothing was measured"
        [ "$p50" -le "$p99" ] && [ "$p99" -le "$max" ] || fault "$row: percentiles do not rise"
        [ "$mean" -le "$max" ] || fault "$row: the mean is above the maximum"
        total=$((total + mean))
    done
    [ "$(reported requests)" = "$(($(issued 1) + $(issued 2)))" ] ||
        fault "$(reported requests) requests timed, $(issued 1) + $(issued 2) issued"
    # Both lie within what fio measures around them.
    fio=$(sed -n 's/^ *lat (\([a-z]*\)): .* avg= *\([0-9.]*\), .*/\1 \2/p' "$temp/out" |
        awk 'NR == 1 { f["nsec"] = 1; f["usec"] = 1000; f["msec"] = 1000000; printf "%d\n", $2 * f[$1] }')
    [ -n "$fio" ] || { fault "no latency from fio"; return; }
    [ $total -le $((fio + fio / 20 + 5000)) ] || fault "queueing + device $total ns on the average, fio's latency $fio ns"
}

checks() { sane_times; }
expect_success "times" "${on_target[@]}" --rw=randread --size=32m --iodepth=32 --timing=1

# With one worker all but one of the requests in flight are queued: nearly all of the time.
checks() {
    sane_times
    [ "$(reported queueing | cut -d. -f1)" -ge 70 ] || fault "queueing is $(reported queueing) % only"
}
expect_success "times-one-worker" "${on_target[@]}" --rw=randread --size=32m --iodepth=32 --iodepth_batch=32 \
    --iodepth_batch_complete_min=32 --timing=1 --workers=1

# Requests before the end of the ramp do not count.
checks() {
    [ "$(reported requests)" ] || { fault "nothing was timed"; return; }
    [ "$(reported requests)" -le $(($(issued 1) + 64)) ] || fault "$(reported requests) timed, $(issued 1) issued"
}
expect_success "times-after-ramp" "${on_target[@]}" --rw=randread --size=16m --iodepth=32 --timing=1 \
    --time_based=1 --ramp_time=1 --runtime=1

# ---- Ends that are not the usual ones ----

if wanted interrupted; then
    # timeout's signal is what a user's Ctrl-C is.
    in_background timeout -s INT -k 10 2 fio --ioengine=external:"$engine" --name=job "${on_target[@]}" --bs=4k \
        --rw=randrw --size=16m --iodepth=128 --time_based=1 --runtime=60 --timing=1 --userspace_reap=1 >"$temp/out" 2>&1 </dev/null
    if grep -q "terminating on signal 2" "$temp/out" && grep -q "aio2 timing: job" "$temp/out" && [ "$status" -ne 137 ]; then
        ok interrupted
    else
        bad interrupted "exit status $status"
    fi
fi

# fio cancels what is in flight when a block is not what it should be. One worker and big blocks: so the rest is still
# queued when the first one is found bad.
if wanted cancel; then
    fio_job "${on_target[@]}" --rw=write --bs=1m --size=128m --iodepth=1 --buffer_pattern=0x5a
    fio_job "${on_target[@]}" --rw=randread --bs=1m --size=128m --iodepth=128 --iodepth_batch=128 \
        --verify=crc32c --workers=1
    fault=
    grep -q "verify: bad" "$temp/out" || fault "fio noticed nothing"
    [ "$status" -eq 1 ] || fault "exit status $status"
    [ "$(reported cancelled)" ] || fault "nothing was cancelled"
    ! grep -q "^aio2: " "$temp/out" || fault "it complains"
    if [ -z "$fault" ]; then ok cancel; else bad cancel "$fault"; fi
fi

# That verification is worth something: one changed byte must be found.
for reap in 0 1; do
    name=corrupted-block-$([ $reap = 1 ] && echo ring || echo call)
    wanted "$name" || continue
    fio_job "${on_target[@]}" "${verified[@]}" --rw=write --do_verify=0 --iodepth=32 --userspace_reap=$reap
    first=$status
    printf '\377' | dd of="$target" bs=1 seek=$((4096 * 1000 + 2345)) conv=notrunc 2>/dev/null
    sync "$target"
    fio_job "${on_target[@]}" "${verified[@]}" --rw=write --verify_only=1 --iodepth=32 --userspace_reap=$reap
    if [ "$first" -eq 0 ] && [ "$status" -eq 1 ] && grep -q "verify: bad\|crc32c: verify failed" "$temp/out"; then
        ok "$name"
    else
        bad "$name" "exit statuses $first, $status"
    fi
done

if wanted io-error; then
    if [ -z "$loop_device" ]; then
        skip io-error "$(why_not loop)"
    else
        truncate -s 1M "$loop_file"
        fio_job --filename="$loop_device" --direct=1 --rw=randread --size=256m --iodepth=64
        if [ "$status" -eq 1 ] && grep -q "err=5/" "$temp/out"; then
            ok io-error
        else
            bad io-error "exit status $status"
        fi
    fi
fi

# ---- Leaks ----

if wanted valgrind; then
    if ! command -v valgrind >/dev/null; then
        skip valgrind "not installed"
    else
        # The report of the job's own process; fio's main process and the libraries that fio links are not ours.
        before=(valgrind --leak-check=full --show-leak-kinds=definite,indirect --track-fds=yes --num-callers=30
            --log-file="$temp/valgrind.%p" --trace-children=yes)
        limit=120
        fio_job "${on_target[@]}" --rw=randrw --size=2m --iodepth=32 --iodepth_batch=16 --userspace_reap=1 \
            --eventfd=1 --timing=1 --ring_bytes=4096
        before=()
        limit=
        fault=
        [ "$status" -eq 0 ] || fault "exit status $status"
        [ "$(grep -l 'ERROR SUMMARY' "$temp"/valgrind.* | wc -l)" -ge 2 ] || fault "no report of the job's process"
        # A block of a valgrind report ends at an empty line; ours are those with our names in the stack.
        # Not "possibly lost": that is what the workers have that are still alive at the exit.
        awk -v RS='==[0-9]+== *\n' '/aio2\.c:|aio2-engine|libaio2|aio2::/ && /((definitely|indirectly) lost in|Invalid |ninitialised|Open file descriptor)/' \
            "$temp"/valgrind.* >"$temp/ours"
        if [ -s "$temp/ours" ]; then
            cp "$temp/ours" "$temp/out"
            fault "errors or leaks with our code in the stack"
        fi
        if [ -z "$fault" ]; then ok valgrind; else bad valgrind "$fault"; fi
    fi
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
