. "$LAB_LIB/lab.sh"
grep -h -i "no space left\|ENOSPC\|was incomplete" "$LAB_LOGS"/*.log | tail -n 1 | grep .
