. "$LAB_LIB/lab.sh"
case $LAB_P_HOW in
as)
    for pid in $(pids_of); do
        kib=$(awk '/^VmSize/ { print $2 }' "/proc/$pid/status")
        limit_process "$pid" --as=$(((kib + 64) * 1024)):
    done
    # As many as there are may need no more.
    more_clients 6
    ;;
cgroup)
    # As little as the kernel takes: what is kept of files goes first, and is no lack.
    used=$(cat "$LAB_CGROUP_MEMORY/memory.usage_in_bytes" "$LAB_CGROUP_MEMORY/memory.current" 2>/dev/null)
    for percent in 40 60 80 90 95 100 102 105 110; do
        limit memory $((used / 100 * percent)) 2>/dev/null && break
    done
    echo "$percent % of $used bytes"
    ;;
esac
injected
# What the application does that needs more.
[ -z "$LAB_P_GROW" ] || sh -c "$LAB_P_GROW" || true
