. "$LAB_LIB/lab.sh"
used() { awk '/^usage_usec/ { print $2 }' "$LAB_CGROUP/cpu.stat"; }
before=$(used)
sleep 3
# Microseconds of a period of 100 ms; the kernel takes no less than 1000.
quota=$((($(used) - before) / 30 * LAB_P_SHARE / 100))
[ $quota -ge 1000 ] || quota=1000
echo "$quota of 100000 µs"
if [ -e "$LAB_CGROUP_CPU/cpu.cfs_quota_us" ]; then
    echo $quota >"$LAB_CGROUP_CPU/cpu.cfs_quota_us"
else
    echo "$quota 100000" >"$LAB_CGROUP_CPU/cpu.max"
fi
injected
