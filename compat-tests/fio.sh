#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# fio.sh JOB ext4|zram|loop: fio's own libaio engine, as Debian builds it.
. "$(dirname "$0")/common.sh" || exit 1
need fio
need_root
job=$1 on=$2
on_ours 'run?'
check_on_ours
devices
target "$on" 256
cd "$temp" || exit 1

# What all have in common; sets $status, leaves the output in $temp/out.
run() {
    in_background "${via[@]}" fio --name=job --ioengine=libaio --filename="$target" --size=64M --bs=4k --iodepth=32 --randrepeat=1 \
        --group_reporting --thread=0 "$@" >"$temp/out" 2>&1 </dev/null
}
good() {
    run "$@"
    cat "$temp/out"
    [ "$status" = 0 ] || fail "exit status $status"
    ! grep -v '^fio: multiple writers may' "$temp/out" | grep -q '^fio: \|verify: bad\|, error=' || fail "it complains"
}
direct=(--direct=1)
case $job in
verify)
    # Several jobs with a part of the target each, then all of it read again and verified.
    jobs=(--numjobs=4 --size=8M --offset_increment=16M)
    good "${direct[@]}" "${jobs[@]}" --rw=randwrite --verify=crc32c --do_verify=1 --iodepth_batch_submit=8 --iodepth_batch_complete_min=1 --iodepth_batch_complete_max=32
    good "${direct[@]}" --rw=write --size=32M --verify=crc32c --do_verify=1 --iodepth=64
    good "${direct[@]}" --rw=randrw --size=16M --bsrange=4k-64k --verify=crc32c --verify_backlog=256 --verify_async=1 --iodepth=64
    ;;
userspace_reap)
    # Without a minimum fio never calls io_getevents.
    good "${direct[@]}" --numjobs=2 --size=4M --offset_increment=16M --rw=randwrite --verify=crc32c --userspace_reap --iodepth_batch_complete_min=0
    good "${direct[@]}" --rw=randread --size=8M --userspace_reap --iodepth=128 --iodepth_batch_submit=16 --iodepth_batch_complete_min=0
    ;;
fsync)
    # That they are carried out can be seen at the device, if it has something to flush (zram has not).
    flushes() {
        awk '{ print $16 }' "/sys/block/$(basename "$device")/stat"
    }
    for sync in --fsync=32 --fdatasync=32; do
        before=$(flushes)
        good --direct=0 --size=8M --rw=randwrite $sync --verify=crc32c --numjobs=2 --offset_increment=16M
        [ "$on" = zram ] || [ $(($(flushes) - before)) -ge 64 ] || fail "$sync: $(($(flushes) - before)) flushes of the device"
    done
    good --direct=0 --size=16M --rw=write --fdatasync=16 --end_fsync=1
    ;;
nowait)
    # RWF_NOWAIT keeps its meaning: -EAGAIN where it would wait. Data in the page cache is still read; not every
    # device knows it, with the page cache or without: what the system's libaio gets there is right.
    if [ "$on" = ext4 ]; then
        good --direct=0 --size=16M --rw=randwrite
        good --direct=0 --size=16M --rw=randread --nowait=1 --pre_read=1 --invalidate=0 --continue_on_error=all
    fi
    good "${direct[@]}" --size=16M --rw=randwrite
    ours=("${via[@]}")
    # The errors that there were, each once. The page cache is empty before: whether a direct read would have to wait for
    # a tag of the device, only the moment tells.
    outcome() {
        local past_cache=$1
        while :; do
            run --direct="$past_cache" --size=16M --rw=randread --nowait=1 --continue_on_error=all
            # Other tests use all of fs.aio-max-nr now and then.
            grep -q 'func=io_queue_init, error=Resource temporarily unavailable' "$temp/out" || break
        done
        sed -n -e 's/.*func=[^,]*, error=\([^)]*\)$/\1/p' -e 's/.*first_error=[1-9][0-9]*.<\(.*\)>$/\1/p' "$temp/out" | sort -u >"$temp/errors"
        [ "$past_cache" = 0 ] || sed -i '/Resource temporarily unavailable/d' "$temp/errors"
        [ "$status" = 0 ] || [ -s "$temp/errors" ] || grep -q 'Resource temporarily unavailable' "$temp/out" || echo "exit status $status"
        cat "$temp/errors"
    }
    for direct in 0 1; do
        via=("${ours[@]}")
        with_ours=$(outcome $direct)
        via=()
        with_system=$(outcome $direct)
        echo "nowait, direct $direct: ${with_system:-no errors}"
        [ "$with_ours" = "$with_system" ] ||
            fail "reads with nowait, direct $direct: ${with_ours:-no errors}; with the system's libaio: ${with_system:-no errors}"
    done
    ;;
cmdprio)
    good "${direct[@]}" --rw=randrw --size=8M --cmdprio_percentage=30 --cmdprio_class=1 --cmdprio=2 --verify=crc32c
    grep -q 'clat.*prio\|prio.*clat\|High prio\|clat prio' "$temp/out" || fail "fio counted no requests of the high priority"
    ;;
*) fail "no job $job" ;;
esac
