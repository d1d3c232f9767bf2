#!/bin/busybox sh
# The first process of a guest: mounts what leaktrace looks at and plays scenes, each of which leaves files
# in a folder of its own that goes to the host by the second serial port. It judges nothing.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs tmpfs /tmp
mkdir /dev/pts
mount -t devpts devpts /dev/pts
# Victims talk to themselves.
ifconfig lo 127.0.0.1 up
# No newline becomes two bytes on its way.
stty -F /dev/ttyS1 raw
cd /tmp

# hand_over NAME: its folder becomes a part of the archive that the host reads.
hand_over() {
    tar -c "$1" >/dev/ttyS1
    read -r uptime _ </proc/uptime
    echo "played $1, $uptime s after the start"
}

# until_there PID COMMAND…: waits until the command succeeds, the process is gone, or 60 s are over.
until_there() {
    waited=$1 left=3000
    shift
    until "$@"; do
        left=$((left - 1))
        [ -d "/proc/$waited" ] && [ $left -gt 0 ] || return 1
        usleep 20000
    done
}

has_lines() { [ "$(wc -l <"$1")" -ge "$2" ]; }

# ask_doctor NAME: about the host alone.
ask_doctor() {
    mkdir "$1"
    leaktrace doctor >"$1/doctor" 2>&1
    echo $? >"$1/doctor_status"
    hand_over "$1"
}

# trace NAME OPTIONS LINES VICTIM…: leaktrace on a victim that says `ready` and LINES lines more.
trace() {
    name=$1 options=$2 lines=$3
    shift 3
    mkdir "$name"
    mkfifo in
    : >"$name/victim"
    : >"$name/said"
    "$@" <in >"$name/victim" 2>&1 &
    victim=$!
    exec 3>in
    until_there $victim has_lines "$name/victim" 1
    leaktrace doctor -p $victim >"$name/doctor" 2>&1
    echo $? >"$name/doctor_status"
    # shellcheck disable=SC2086 # options are words
    leaktrace -v -p $victim -f json -o "$name/report.json" $options 2>"$name/said" &
    leaktrace=$!
    until_there $leaktrace grep -q '^leaktrace: tracing' "$name/said"
    # Without them stacks are cut; they take seconds here.
    until_there $leaktrace grep -q 'all unwind tables are there' "$name/said"
    echo go >&3
    until_there $victim has_lines "$name/victim" $((lines + 1))
    [ -d /proc/$leaktrace ] && kill -INT $leaktrace
    wait $leaktrace
    echo $? >"$name/status"
    echo exit >&3
    exec 3>&-
    wait $victim
    echo $? >"$name/victim_status"
    rm in
    hand_over "$name"
}

