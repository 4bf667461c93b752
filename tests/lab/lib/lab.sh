# What scripts of applications and faults share: `. "$LAB_LIB/lab.sh"`. Every variable and function
# is described in docs/lab.md.

# Says that the fault takes force now, where making ready took a while.
injected() { date +%s.%N >"$LAB_NOTES/injected"; }

# The main process of a container or dependency, $LAB_NAME without an argument.
pid_of() { cat "$LAB_CONTROL/${1:-$LAB_NAME}.pid"; }

# All processes of a container or dependency.
pids_of() {
    upper=$(printf %s "${1:-$LAB_NAME}" | tr a-z- A-Z_)
    eval "find \"\$LAB_CGROUP_$upper\" -name cgroup.procs -exec cat {} +"
}

# Whether a container or dependency that ends is started again.
keep_down() { touch "$LAB_CONTROL/${1:-$LAB_NAME}.down"; }
let_up() { rm -f "$LAB_CONTROL/${1:-$LAB_NAME}.down"; }

# Ends a container or dependency by a signal and waits until it is gone.
end() {
    pid=$(pid_of "${2:-$LAB_NAME}")
    kill "-$1" "$pid"
    for round in $(seq 200); do
        gone "$pid" && return 0
        sleep 0.05
    done
    echo "process $pid does not end"
    return 1
}

# Whether a process ended; one that nobody waited for yet counts.
gone() {
    [ ! -e "/proc/$1" ] || grep -q '^State:.*Z' "/proc/$1/status" 2>/dev/null
}

# Settings of the relay before a dependency, `relay delay_ms=300`; without any, it only relays.
relay() {
    echo "$@" >"$LAB_CONTROL/$LAB_NAME.relay.new"
    mv "$LAB_CONTROL/$LAB_NAME.relay.new" "$LAB_CONTROL/$LAB_NAME.relay"
}

# So many times as many requests as usual.
load_factor() {
    echo "$1" >"$LAB_CONTROL/load.factor.new"
    mv "$LAB_CONTROL/load.factor.new" "$LAB_CONTROL/load.factor"
}

# Runs a command inside of the container.
in_container() {
    (
        # The container's own last: from then on, what runs here is seen. A subshell's own number is
        # not in $$.
        for group in "$LAB_CGROUP_CPU" "$LAB_CGROUP_MEMORY" "$LAB_CGROUP_PIDS"; do
            [ "$group" = "$LAB_CGROUP" ] || sh -c 'echo $PPID' >"$group/cgroup.procs"
        done
        sh -c 'echo $PPID' >"$LAB_CGROUP/cgroup.procs"
        exec "$@"
    )
}

# Runs a command in the network of clients and dependencies.
outside() { nsenter --net="$LAB_OUTSIDE_NET" "$@"; }

# Clients that connect and stay, until `end_background`.
more_clients() { background outside /usr/bin/python3 "$LAB_LIB/idle.py" "$1"; }

# Leaves a command running, until `end_background`.
background() {
    "$@" &
    echo $! >>"$LAB_NOTES/background"
}
end_background() {
    [ -e "$LAB_NOTES/background" ] || return 0
    while read -r pid; do
        # What a function runs is a child of the shell that was noted.
        children=$(cat "/proc/$pid/task/$pid/children" 2>/dev/null)
        kill $pid $children 2>/dev/null
    done <"$LAB_NOTES/background"
    rm "$LAB_NOTES/background"
}

# Limits what the container may use, cgroup v1 or v2: `limit cpu 20` (percent of a processor),
# `limit memory BYTES`, `limit pids N`; `max` lifts it.
limit() {
    case $1 in
    cpu)
        if [ -e "$LAB_CGROUP_CPU/cpu.cfs_quota_us" ]; then
            quota=-1
            [ "$2" = max ] || quota=$(($2 * 1000))
            echo $quota >"$LAB_CGROUP_CPU/cpu.cfs_quota_us"
        else
            quota=max
            [ "$2" = max ] || quota=$(($2 * 1000))
            echo "$quota 100000" >"$LAB_CGROUP_CPU/cpu.max"
        fi
        ;;
    memory)
        if [ -e "$LAB_CGROUP_MEMORY/memory.limit_in_bytes" ]; then
            bytes=-1
            [ "$2" = max ] || bytes=$2
            echo $bytes >"$LAB_CGROUP_MEMORY/memory.limit_in_bytes"
        else
            echo "$2" >"$LAB_CGROUP_MEMORY/memory.max"
        fi
        ;;
    pids) echo "$2" >"$LAB_CGROUP_PIDS/pids.max" ;;
    esac
}

# A file system at $LAB_DATA that `faulty` can disturb, over the disk or folder that was there.
mount_faulty() {
    mkdir -p "$LAB_WORK/disk"
    mount --move "$LAB_DATA" "$LAB_WORK/disk" 2>/dev/null || mount --bind "$LAB_DATA" "$LAB_WORK/disk"
    /usr/bin/python3 "$LAB_LIB/faulty_fs.py" "$LAB_WORK/disk" "$LAB_DATA" "$LAB_CONTROL/fs" &
    for round in $(seq 200); do
        grep -q " $LAB_DATA fuse" /proc/mounts && return 0
        sleep 0.05
    done
    echo "no FUSE at $LAB_DATA"
    return 1
}
# `faulty errno=EIO ops=write`; without words it is a good disk again.
faulty() {
    echo "$@" >"$LAB_CONTROL/fs.new"
    mv "$LAB_CONTROL/fs.new" "$LAB_CONTROL/fs"
}

# A table of packet rules of the pod; `no_rules` takes it away.
rule() {
    nft add table inet lab
    nft add chain inet lab out '{ type filter hook output priority 0; }'
    nft add chain inet lab in '{ type filter hook input priority 0; }'
    nft add rule inet lab "$@"
}
no_rules() { nft delete table inet lab; }

# `limit_process PID --nofile=4:` and the like, as the user of the process: root needs a right for it
# that it may not have.
limit_process() {
    setpriv --reuid="$(stat -c %u "/proc/$1")" --regid="$(stat -c %g "/proc/$1")" --clear-groups \
        prlimit --pid="$1" "$2"
}

# Sets a switch in the application's features.json; `switch_back` undoes it.
switch() {
    cp -p "$LAB_WORK/features.json" "$LAB_NOTES/features.json"
    sed "s/\"$1\": [^,}]*/\"$1\": $2/" "$LAB_NOTES/features.json" >"$LAB_WORK/features.json.new"
    chmod 644 "$LAB_WORK/features.json.new"
    mv "$LAB_WORK/features.json.new" "$LAB_WORK/features.json"
}
switch_back() {
    cp -p "$LAB_NOTES/features.json" "$LAB_WORK/features.json.new"
    mv "$LAB_WORK/features.json.new" "$LAB_WORK/features.json"
}
