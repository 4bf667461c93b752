. "$LAB_LIB/lab.sh"
grep -h -i "no space left\|ENOSPC" "$LAB_LOGS"/*.log | tail -n 1 | grep .
