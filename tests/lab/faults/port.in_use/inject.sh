. "$LAB_LIB/lab.sh"
keep_down
end KILL
# Its workers have the port as long as they live.
kill -KILL $(pids_of) 2>/dev/null || true
background /usr/bin/python3 "$LAB_FAULT/squat.py" "$LAB_P_ADDRESS" "$LAB_PORT"
for round in $(seq 100); do
    [ -e "$LAB_NOTES/squatting" ] && break
    sleep 0.05
done
[ -e "$LAB_NOTES/squatting" ] || { echo "the port is not free"; exit 1; }
injected
let_up
