. "$LAB_LIB/lab.sh"
for pid in $(find "$(dirname "$LAB_CGROUP")" -name cgroup.procs -exec cat {} +); do
    taskset -apc 0 "$pid" >/dev/null
done
# Another pod, with a hundred times as much of a claim to the processor: some cores asked for, where this one asked
# for a few hundredths of one.
neighbour=$(dirname "$(dirname "$LAB_CGROUP_CPU")")/neighbour
mkdir -p "$neighbour"
if [ -e "$neighbour/cpu.shares" ]; then
    echo 102400 >"$neighbour/cpu.shares"
else
    echo 10000 >"$neighbour/cpu.weight"
fi
for hog in $(seq "$LAB_P_HOGS"); do
    background taskset -c 0 sh -c 'echo $$ >"$0/cgroup.procs"; while :; do :; done' "$neighbour"
done
