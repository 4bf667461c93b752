. "$LAB_LIB/lab.sh"
grep -h -i "too many open files\|EMFILE" "$LAB_LOGS"/*.log | tail -n 1 | grep .
