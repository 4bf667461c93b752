. "$LAB_LIB/lab.sh"
end_background
for pid in $(find "$(dirname "$LAB_CGROUP")" -name cgroup.procs -exec cat {} +); do
    taskset -apc 0-$(($(nproc --all) - 1)) "$pid" >/dev/null || true
done
for round in $(seq 50); do
    rmdir "$(dirname "$(dirname "$LAB_CGROUP_CPU")")/neighbour" 2>/dev/null && break
    sleep 0.1
done
