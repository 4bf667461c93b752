#!/bin/busybox sh
# The first process of the virtual machine. It runs the lines of /jobs in turn, each
# `INDEX LAYOUT BINARY TEST`, and says on the second serial port how each ended (see report.rs).

SECONDS_A_JOB=120

/bin/busybox --install -s /bin
# STETHOS_TEST_SMALL: what only needs time is done less often.
export PATH=/bin STETHOS_SKIP_LOG=/tmp/skipped STETHOS_TEST_SMALL=1
mount -t devtmpfs dev /dev
mkdir /dev/shm
mount -t tmpfs -o mode=1777 shm /dev/shm
exec < /dev/null > /dev/ttyS1 2>&1

broken() {
    echo "@broken $*"
    poweroff -f
    sleep 60
}

mount -t proc proc /proc || broken proc
mount -t sysfs sys /sys || broken sysfs
mount -t bpf bpf /sys/fs/bpf || broken bpffs
mount -t tracefs tracing /sys/kernel/tracing || broken tracefs
# The build may lie in /tmp, so nothing is mounted there.
chmod 755 /
chmod 1777 /tmp
ip link set lo up || broken loopback

uptime() {
    cut -d ' ' -f 1 /proc/uptime
}

# Mounts cgroup v2 alone, or beside v1 as systemd's hybrid hierarchy does. There the tests stand
# in a v1 cgroup whose path is another one than that of their v2 cgroup.
lay_out() {
    for at in $(cut -d ' ' -f 2 /proc/mounts | grep '^/sys/fs/cgroup' | sort -r); do
        umount "$at" || broken "umount $at"
    done
    case $1 in
    unified)
        mount -t cgroup2 cgroup2 /sys/fs/cgroup || broken cgroup2
        ;;
    beside-v1)
        mount -t tmpfs cgroups /sys/fs/cgroup || broken tmpfs
        mkdir /sys/fs/cgroup/freezer /sys/fs/cgroup/unified
        mount -t cgroup -o freezer freezer /sys/fs/cgroup/freezer || broken "cgroup v1"
        mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified || broken cgroup2
        mkdir /sys/fs/cgroup/freezer/elsewhere
        echo $$ > /sys/fs/cgroup/freezer/elsewhere/cgroup.procs || broken "cgroup v1"
        ;;
    *) broken "layout $1" ;;
    esac
    layout=$1
}

# The beginning and the end of what a test wrote, marked as output. The verifier's log stands in
# one line of a failed step, its line ends escaped.
show() {
    sed 's/\\n/\n/g' "$1" > /tmp/lines
    if [ "$(wc -l < /tmp/lines)" -gt 60 ]; then
        head -n 15 /tmp/lines
        echo '[…]'
        tail -n 45 /tmp/lines
    else
        cat /tmp/lines
    fi | cut -c 1-500 | sed 's/^/| /'
}

echo "@kernel $(uname -r) $(uptime)"
layout=
while read -r index wanted binary test; do
    [ "$wanted" = "$layout" ] || lay_out "$wanted"
    : > "$STETHOS_SKIP_LOG"
    start=$(uptime)
    timeout -s KILL "$SECONDS_A_JOB" "$binary" --exact "$test" > /tmp/output 2>&1
    code=$?
    if [ -s "$STETHOS_SKIP_LOG" ]; then
        outcome=skipped
    elif [ "$code" = 0 ] && grep -q 'test result: ok\. 1 passed' /tmp/output; then
        outcome=passed
    else
        outcome=failed:$code
    fi
    echo "@job $index $outcome $start $(uptime)"
    case $outcome in
    skipped) show "$STETHOS_SKIP_LOG" ;;
    failed:*) show /tmp/output ;;
    esac
done < /jobs
echo @end
poweroff -f
