# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Block devices for a script, removed when it ends, however it ends. To be sourced by bash:
#
#     . devices.sh
#     devices_begin                   # makes $temp and sets the traps
#     zram 256 && use $device         # sizes in MiB
#     loop 256 && use $device         # over $temp/loop-N.img, $device_file
#     in_background COMMAND...        # sets $status; a signal to the script ends the command too
#
# What was made is noted in $temp before anything can interrupt, so the end needs no variables.

# Runs a command such that a signal to the script is handled at once, and not only when the command ends.
in_background() {
    "$@" &
    child=$!
    status=0
    wait "$child" || status=$?
    child=
}

devices_begin() {
    child=
    temp=$(mktemp -d "${TMPDIR:-/tmp}/aio2.XXXXXX") || exit 1
    # Processes of ours can be told by it, also those that left our process group.
    export AIO2_DEVICES=$temp
    trap devices_end EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

# What we started and is still there: by our mark in its environment, as it was at exec. So this shell and
# its subshells are not among them.
kill_ours() {
    local file
    for file in $(grep -slzxF "AIO2_DEVICES=$temp" /proc/[0-9]*/environ); do
        file=${file%/environ}
        kill -KILL "${file#/proc/}" 2>/dev/null
    done
}

devices_end() {
    local exit_status=$? file number i
    trap '' HUP INT TERM
    if [ -n "$child" ]; then
        kill -TERM "$child" 2>/dev/null
        # Time to end by itself, since it removes what it made itself.
        for ((i = 0; i < 1000; i++)); do
            kill -0 "$child" 2>/dev/null || break
            sleep 0.01
        done
    fi
    kill_ours
    wait 2>/dev/null
    for file in "$temp"/mount-*; do
        # A process that was killed may hold the file system for a moment.
        for ((i = 0; i < 6000; i++)); do
            mountpoint -q "$file" || break
            umount "$file" 2>/dev/null && break
            sleep 0.01
        done
    done
    for file in "$temp"/*.img; do
        [ -f "$file" ] || continue
        losetup -n -O NAME -j "$file" 2>/dev/null | while read -r number; do
            losetup -d "$number"
        done
    done
    for file in "$temp"/zram-*; do
        [ -f "$file" ] || continue
        read -r number <"$file" || continue
        for ((i = 0; i < 6000; i++)); do
            # A service that looks at new block devices may have it open for a moment.
            { echo 1 >"/sys/block/zram$number/reset" &&
                echo "$number" >/sys/class/zram-control/hot_remove; } 2>/dev/null && break
            sleep 0.01
        done
        [ ! -e "/sys/block/zram$number" ] || echo "/dev/zram$number cannot be removed" >&2
    done
    rm -rf "$temp"
    exit "$exit_status"
}

# The node of a new device, which devtmpfs or udev makes.
node() {
    local i
    device=$1
    for ((i = 0; i < 200; i++)); do
        [ -b "$device" ] && return 0
        sleep 0.01
    done
    return 1
}

zram() {
    local note number
    [ "$(id -u)" -eq 0 ] || return 1
    if [ ! -e /sys/class/zram-control/hot_add ]; then
        modprobe zram num_devices=0 2>/dev/null
        [ -e /sys/class/zram-control/hot_add ] || return 1
    fi
    note=$(mktemp "$temp/zram-XXXXXX") || return 1
    # Reading makes the device: not to be interrupted between that and the note.
    (
        trap '' HUP INT TERM
        exec cat /sys/class/zram-control/hot_add >"$note"
    ) || return 1
    number=$(cat "$note")
    [ -n "$number" ] || return 1
    echo "$(($1 << 20))" >"/sys/block/zram$number/disksize" || return 1
    node "/dev/zram$number"
}

loop() {
    local name
    [ "$(id -u)" -eq 0 ] || return 1
    device_file=$(mktemp "$temp/loop-XXXXXX.img") || return 1
    truncate -s "$1M" "$device_file" || return 1
    name=$(
        trap '' HUP INT TERM
        exec losetup --find --show "$device_file" 2>/dev/null
    ) || return 1
    node "$name"
}
