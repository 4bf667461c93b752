. "$LAB_LIB/lab.sh"
grep -h -i "in use" "$LAB_LOGS"/*.log | tail -n 1 | grep .
