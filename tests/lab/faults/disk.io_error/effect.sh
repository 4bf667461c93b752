. "$LAB_LIB/lab.sh"
grep -h -i "input/output error\|EIO" "$LAB_LOGS"/*.log | tail -n 1 | grep .
