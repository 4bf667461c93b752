. "$LAB_LIB/lab.sh"
case $LAB_P_HOW in
signal) kill -CONT $(pids_of) ;;
cgroup) echo 0 >"$LAB_CGROUP/cgroup.freeze" ;;
esac
