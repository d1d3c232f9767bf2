#!/bin/busybox sh
# The init process of a guest: mounts the file systems that leaktrace reads and runs the cases. Each writes its files to
# a folder of its own, which goes to the host through the second serial port. The host checks the results.
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
# Victims use loopback.
ifconfig lo 127.0.0.1 up
# Sends newlines unchanged.
stty -F /dev/ttyS1 raw
cd /tmp

# hand_over NAME: appends its folder to the archive that the host reads.
hand_over() {
    tar -c "$1" >/dev/ttyS1
    read -r uptime _ </proc/uptime
    echo "ran $1, $uptime s after the start"
}

# until_there PID COMMAND…: waits until the command succeeds, the process has ended, or 60 s have passed.
until_there() {
    waited=$1 left=3000
    shift
    until "$@"; do
        left=$((left - 1))
        [ -d "/proc/$waited" ] && [ $left -gt 0 ] || return 1
        usleep 20000
    done
}

# wait_for PID FILE: waits for a child, and returns its status. One that does not end within 120 s is killed; what its
# threads were waiting for is in FILE.
wait_for() {
    (
        exec 3>&-
        sleep 120
        for thread in /proc/"$1"/task/*; do
            echo "$thread $(cat "$thread/comm"): $(grep State "$thread/status")"
            cat "$thread/syscall" "$thread/stack"
        done >"$2"
        kill -KILL "$1"
    ) &
    watchdog=$!
    wait "$1"
    ended=$?
    kill $watchdog 2>/dev/null
    return $ended
}

has_lines() { [ "$(wc -l <"$1")" -ge "$2" ]; }

# ask_doctor NAME: `leaktrace doctor` without a target.
ask_doctor() {
    mkdir "$1"
    leaktrace doctor >"$1/doctor" 2>&1
    echo $? >"$1/doctor_status"
    hand_over "$1"
}

# trace NAME OPTIONS LINES VICTIM…: leaktrace on a victim that prints `ready` and LINES more lines.
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
    # Without unwind tables stacks are truncated; building them takes seconds here.
    until_there $leaktrace grep -q 'all unwind tables are there' "$name/said"
    echo go >&3
    until_there $victim has_lines "$name/victim" $((lines + 1))
    [ -d /proc/$leaktrace ] && kill -INT $leaktrace
    wait_for $leaktrace "$name/stuck"
    echo $? >"$name/status"
    echo exit >&3
    exec 3>&-
    wait_for $victim "$name/victim_stuck"
    echo $? >"$name/victim_status"
    rm in
    hand_over "$name"
}

