. "$LAB_LIB/lab.sh"
grep VmRSS "/proc/$(pid_of)/status"
