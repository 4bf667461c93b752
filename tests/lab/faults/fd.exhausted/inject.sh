. "$LAB_LIB/lab.sh"
for pid in $(pids_of); do
    lowest=0
    while [ -e "/proc/$pid/fd/$lowest" ]; do lowest=$((lowest + 1)); done
    prlimit --pid="$pid" --nofile --output=SOFT --noheadings --raw >"$LAB_NOTES/limit.$pid"
    limit_process "$pid" --nofile=$((lowest + LAB_P_MORE)):
done
# As many as there are may need no more.
more_clients 6
