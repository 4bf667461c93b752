. "$LAB_LIB/lab.sh"
case $LAB_P_HOW in
as)
    for pid in $(pids_of); do
        kib=$(awk '/^VmSize/ { print $2 }' "/proc/$pid/status")
        limit_process "$pid" --as=$(((kib + 64) * 1024)):
    done
    ;;
cgroup)
    # What is kept of files goes first, and is no lack.
    kib=$(for pid in $(pids_of); do awk '/^RssAnon/ { print $2 }' "/proc/$pid/status"; done |
        awk '{ sum += $1 } END { print sum }')
    limit memory $((kib * 1024 * 9 / 10)) || limit memory $(((kib + 400) * 1024))
    ;;
esac
injected
# What the application does that needs more.
[ -z "$LAB_P_GROW" ] || sh -c "$LAB_P_GROW" || true
