#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# others.sh sysbench|stressapptest|mariadb|lvm [HOW]: programs of Debian's that use libaio, as they are installed.
. "$(dirname "$0")/common.sh" || exit 1
program=$1
case $program in
mariadb) command -v mariadbd >/dev/null || skip "there is no mariadbd (scripts/deps.sh installs it with LONG=1: it is big)" ;;
lvm)
    # Its package brings services with it, and so is not installed for this.
    command -v lvm >/dev/null || skip "there is no lvm"
    need_root
    ;;
*) need "$program" ;;
esac
on_ours "${2:-run?}"
check_on_ours
devices
# Not from a directory that will be unmounted.
leave() {
    local exit_status=$?
    cd /
    return $exit_status
}
trap 'leave; devices_end' EXIT

# Runs a program on ours, leaves its output in $temp/out.
run() {
    in_background "${via[@]}" "$@" >"$temp/out" 2>&1 </dev/null
    cat "$temp/out"
    [ "$status" = 0 ] || fail "$1: exit status $status"
}
# With statistics, where there is aio2-run: they show that it was ours, and how much. `used PATH READS WRITES`: at least.
[ ${#via[@]} = 0 ] || [ "${via[0]}" != "$RUN" ] || via+=("--stats=$temp/stats")
used() {
    [ "${via[0]:-}" = "$RUN" ] && [ -n "$RUN" ] || return 0
    cat "$temp/stats"
    awk -v path="$1" -v reads="$2" -v writes="$3" '
        /^\// { here = index($0, path) > 0 }
        here && / reads \(/ { r += $1; w += $5; e += $(NF - 1) }
        END { exit !(r >= reads && w >= writes && e == 0) }' "$temp/stats" ||
        fail "of $1 ours has carried out fewer than $2 reads and $3 writes, or some failed"
    rm -f "$temp/stats"
}

case $program in
sysbench)
    directory=$temp
    if [ "$(id -u)" = 0 ]; then
        ext4 128
        directory=$mounted
    fi
    cd "$directory" || exit 1
    # Its own validation looks at what is read before it has been read.
    job=(sysbench fileio --file-num=4 --file-total-size=64M --file-io-mode=async --file-async-backlog=32 --threads=2 --time=0)
    for flags in direct sync; do
        run "${job[@]}" --file-extra-flags=$flags prepare
        for mode in seqrewr rndrw rndwr rndrd; do
            run "${job[@]}" --file-extra-flags=$flags --file-test-mode=$mode --events=4000 --file-fsync-freq=50 run
            grep -q 'total number of events: *[4-9][0-9][0-9][0-9]' "$temp/out" || fail "$mode: too few events"
            ! grep -q 'FATAL\|ALERT' "$temp/out" || fail "$mode: it complains"
        done
    done
    used test_file 4000 8000
    ;;
stressapptest)
    # Writes patterns, at random as well, reads them back and compares.
    target=$temp/target
    if [ "$(id -u)" = 0 ]; then
        target loop 64
    else
        truncate -s 64M "$target"
    fi
    run stressapptest -s 4 -M 32 -m 1 -d "$target" --random-threads 2 --destructive --read-block-size 4096 --segment-size 1048576 \
        --blocks-per-segment 16
    grep -q '^Status: PASS' "$temp/out" || fail "it has not passed"
    grep -q 'Stats: Disk: *[1-9]' "$temp/out" || fail "nothing was done with the disk"
    used "$target" 500 100
    ;;
mariadb)
    need mariadb mariadb-install-db
    # It prefers io_uring. A function of liburing's that says that there is none: then it takes libaio.
    echo '#include <errno.h>
        int io_uring_queue_init(unsigned entries, void *ring, unsigned flags);
        int io_uring_queue_init(unsigned entries, void *ring, unsigned flags)
        { (void)entries; (void)ring; (void)flags; return -ENOSYS; }' >"$temp/no-uring.c"
    "$CC" -shared -fPIC -o "$temp/no-uring.so" "$temp/no-uring.c" || fail "cannot compile"
    user=$(id -un)
    mariadb-install-db --no-defaults --user="$user" --datadir="$temp/data" --skip-test-db --auth-root-authentication-method=normal \
        >"$temp/out" 2>&1 </dev/null || { cat "$temp/out"; fail "mariadb-install-db failed"; }

    sql() {
        mariadb --no-defaults -S "$temp/sock" -u root -N -e "$1" 2>&1
    }
    server() { # [VIA...]: starts one
        rm -f "$temp/sock"
        LD_PRELOAD=$temp/no-uring.so "$@" mariadbd --no-defaults --user="$user" --datadir="$temp/data" --socket="$temp/sock" --skip-networking \
            --innodb-use-native-aio=1 --innodb-flush-method=O_DIRECT --innodb-buffer-pool-size=20M --innodb-log-file-size=8M \
            >"$temp/log" 2>&1 </dev/null &
        child=$!
        for ((i = 0; i < 300; i++)); do
            sql 'select 1' >/dev/null && return
            kill -0 "$child" 2>/dev/null || break
            sleep 0.1
        done
        cat "$temp/log"
        fail "mariadbd does not begin"
    }
    ended() {
        status=0
        wait "$child" || status=$?
        child=
        cat "$temp/log"
        ! grep -i 'corrupt\|\[error\]' "$temp/log" || fail "it complains"
    }
    fill="insert into x.t(s, k) select repeat(md5(seq), 6), seq % 1000 from seq_1_to_50000"
    sums="select count(*), sum(crc32(s)) from x.t"

    server "${via[@]}"
    grep -q 'falling back to libaio' "$temp/log" || { cat "$temp/log"; skip "this mariadbd does not use libaio"; }
    sql "create database x; use x; create table x.t (id int auto_increment primary key, s varchar(255), k int, key (k)) engine = innodb; $fill;
        update x.t set s = md5(id + k) where k % 3 = 0; delete from x.t where id % 7 = 0; $fill" || fail "SQL"
    before=$(sql "$sums")
    sql shutdown
    ended
    [ "$status" = 0 ] || fail "it ended with $status"
    used t.ibd 0 500

    # Another process reads all that was written, with the system's libaio.
    server
    [ "$(sql "$sums")" = "$before" ] || fail "$(sql "$sums"), and it was $before"
    sql 'check table x.t' | grep -q 'status.*OK' || fail "$(sql 'check table x.t')"
    sql shutdown
    ended

    # And after a crash: the committed data is found.
    server "${via[@]}"
    sql "update x.t set s = md5(id); select count(*), sum(crc32(s)) from x.t" >"$temp/before"
    sql "use x; begin; update x.t set k = k + 1; $fill; commit" >/dev/null 2>&1 &
    load=$!
    sleep 0.3
    kill -KILL "$child"
    ended >/dev/null
    wait "$load"
    server
    sql "select count(*), sum(crc32(s)) from x.t where id <= (select id from x.t order by id limit $(($(cut -f 1 "$temp/before") - 1)), 1)" >"$temp/after"
    cmp "$temp/before" "$temp/after" || fail "after the crash $(cat "$temp/after"), and before $(cat "$temp/before")"
    sql 'check table x.t' | grep -q 'status.*OK' || fail "$(sql 'check table x.t')"
    sql shutdown
    ended
    ;;
lvm)
    # It closes all descriptors that it does not know, reads the devices' ends and writes metadata.
    loop 64 || skip "no loop device"
    first=$device
    loop 64 || skip "no loop device"
    second=$device
    export LVM_SYSTEM_DIR=$temp/lvm LVM_SUPPRESS_FD_WARNINGS=1
    mkdir "$temp/lvm"
    cat >"$temp/lvm/lvm.conf" <<CONF
devices {
    use_devicesfile=0
    obtain_device_list_from_udev=0
    filter=["a|^$first\$|", "a|^$second\$|", "r|.*|"]
}
global {
    locking_dir="$temp/lvm/lock"
    use_lvmpolld=0
}
activation {
    udev_sync=0
    udev_rules=0
    monitoring=0
}
CONF
    group=aio2-$$
    run lvm pvcreate "$first" "$second"
    run lvm vgcreate "$group" "$first" "$second"
    run lvm vgs --noheadings -o vg_name,pv_count
    grep -qE "^ *$group +2" "$temp/out" || fail "vgs does not show the group"
    # The system's sees what ours has written, and changes it for ours.
    lvm vgck "$group" || fail "the system's vgck is not content"
    lvm vgreduce "$group" "$second" || fail "the system's vgreduce failed"
    run lvm pvs --noheadings -o pv_name,vg_name
    grep -qE "^ *$first +$group" "$temp/out" || fail "pvs does not show the group on $first"
    ! grep -qE "^ *$second +$group" "$temp/out" || fail "pvs shows the group on $second"
    run lvm vgremove -f "$group"
    run lvm pvremove "$first" "$second"
    used "$first" 10 3
    ;;
*) fail "no program $program" ;;
esac
