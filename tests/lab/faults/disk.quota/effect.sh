. "$LAB_LIB/lab.sh"
grep -h -i "file too large\|EFBIG\|SIGXFSZ" "$LAB_LOGS"/*.log | tail -n 1 | grep .
