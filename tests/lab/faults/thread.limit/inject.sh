. "$LAB_LIB/lab.sh"
limit pids $(($(cat "$LAB_CGROUP_PIDS/pids.current") + LAB_P_MORE))
# As many as there are may need no more.
more_clients 6
