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
    good "${direct[@]}" --rw=randrw --size=16M --bsrange=4k-64k --verify=crc32c --verify_backlog=256 --verify_async=1 --iodepth=64
    ;;
userspace_reap)
    # Without a minimum fio never calls io_getevents.
    good "${direct[@]}" --numjobs=2 --size=8M --offset_increment=16M --rw=randwrite --verify=crc32c --userspace_reap --iodepth_batch_complete_min=0
    good "${direct[@]}" --rw=randread --size=16M --userspace_reap --iodepth=128 --iodepth_batch_submit=16 --iodepth_batch_complete_min=0
    ;;
fsync)
    good --direct=0 --size=8M --rw=randwrite --fsync=32 --verify=crc32c --numjobs=2 --offset_increment=16M
    good --direct=0 --size=16M --rw=write --fdatasync=16 --end_fsync=1
    ;;
nowait)
    # RWF_NOWAIT keeps its meaning: -EAGAIN where it would wait.
    # Buffered, what is in the page cache; block devices do not know it with the page cache.
    if [ "$on" = ext4 ]; then
        good --direct=0 --size=16M --rw=randwrite
        good --direct=0 --size=16M --rw=randread --nowait=1 --pre_read=1 --invalidate=0 --continue_on_error=all
    else
        run --direct=0 --size=16M --rw=randread --nowait=1
        grep -q 'Operation not supported' "$temp/out" || { cat "$temp/out"; fail "buffered reads of a block device with nowait are not refused"; }
    fi
    good "${direct[@]}" --size=16M --rw=randwrite
    # Direct, what the system's libaio gets: not every device knows it, and some would wait now and then.
    outcome() {
        if [ "$status" = 0 ] || grep -q 'Resource temporarily unavailable' "$temp/out"; then echo ok; else grep -o 'error=[^)]*' "$temp/out" | sort -u; fi
    }
    run "${direct[@]}" --size=16M --rw=randread --nowait=1 --continue_on_error=all
    cat "$temp/out"
    ours=$(outcome)
    via=()
    run "${direct[@]}" --size=16M --rw=randread --nowait=1 --continue_on_error=all
    [ "$ours" = "$(outcome)" ] || fail "direct reads with nowait: $ours; with the system's libaio: $(outcome)"
    ;;
cmdprio)
    good "${direct[@]}" --rw=randrw --size=8M --cmdprio_percentage=30 --cmdprio_class=1 --cmdprio=2 --verify=crc32c
    grep -q 'clat.*prio\|prio.*clat\|High prio\|clat prio' "$temp/out" || fail "fio counted no requests of the high priority"
    ;;
*) fail "no job $job" ;;
esac
