. "$LAB_LIB/lab.sh"
echo "refused: $(cat "$LAB_CGROUP_PIDS/pids.events")"
! grep -q "max 0" "$LAB_CGROUP_PIDS/pids.events"
