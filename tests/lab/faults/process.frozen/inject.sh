. "$LAB_LIB/lab.sh"
case $LAB_P_HOW in
signal) kill -STOP $(pids_of) ;;
cgroup) echo 1 >"$LAB_CGROUP/cgroup.freeze" ;;
esac
