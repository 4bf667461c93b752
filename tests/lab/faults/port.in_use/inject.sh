. "$LAB_LIB/lab.sh"
keep_down
end KILL
background /usr/bin/python3 "$LAB_FAULT/squat.py" "$LAB_P_ADDRESS" "$LAB_PORT"
for round in $(seq 100); do
    [ -e "$LAB_NOTES/squatting" ] && break
    sleep 0.05
done
injected
let_up
