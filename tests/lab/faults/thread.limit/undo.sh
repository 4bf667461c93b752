. "$LAB_LIB/lab.sh"
limit pids max
