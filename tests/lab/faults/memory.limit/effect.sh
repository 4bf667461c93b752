. "$LAB_LIB/lab.sh"
grep -h -i "memoryerror\|cannot allocate\|ENOMEM\|out of memory" "$LAB_LOGS"/*.log | tail -n 1 | grep . && exit 0
# The kernel ended something, or found nothing more to give.
cat "$LAB_CGROUP_MEMORY/memory.oom_control" "$LAB_CGROUP_MEMORY/memory.events" 2>/dev/null | grep oom_kill
! cat "$LAB_CGROUP_MEMORY/memory.oom_control" "$LAB_CGROUP_MEMORY/memory.events" 2>/dev/null |
    grep -q '^oom_kill 0'
