. "$LAB_LIB/lab.sh"
end_background
case $LAB_P_HOW in
as) for pid in $(pids_of); do limit_process "$pid" --as=unlimited: || true; done ;;
cgroup) limit memory max ;;
esac
