. "$LAB_LIB/lab.sh"
limit pids $(($(cat "$LAB_CGROUP_PIDS/pids.current") + LAB_P_MORE))
