. "$LAB_LIB/lab.sh"
for pid in $(pids_of); do prlimit --pid="$pid" --fsize=unlimited:; done
