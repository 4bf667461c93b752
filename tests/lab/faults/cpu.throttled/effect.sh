. "$LAB_LIB/lab.sh"
grep nr_throttled "$LAB_CGROUP_CPU/cpu.stat"
! grep -q "nr_throttled 0" "$LAB_CGROUP_CPU/cpu.stat"
