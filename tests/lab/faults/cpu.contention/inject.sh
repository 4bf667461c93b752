. "$LAB_LIB/lab.sh"
for pid in $(find "$(dirname "$LAB_CGROUP")" -name cgroup.procs -exec cat {} +); do
    taskset -apc 0 "$pid" >/dev/null
done
for hog in $(seq "$LAB_P_HOGS"); do
    background taskset -c 0 sh -c 'while :; do :; done'
done
