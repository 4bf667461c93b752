. "$LAB_LIB/lab.sh"
for pid in $(pids_of); do limit_process "$pid" --fsize=unlimited:; done
