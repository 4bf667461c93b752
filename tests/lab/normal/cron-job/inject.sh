. "$LAB_LIB/lab.sh"
job() {
    while :; do
        LAB_RATE=$LAB_P_REQUESTS LAB_FACTOR=/dev/null nsenter --net="$LAB_OUTSIDE_NET" $LAB_LOAD &
        client=$!
        sleep 1
        kill "$client"
        sleep "$LAB_P_EVERY"
    done
}
job >/dev/null 2>&1 &
echo $! >"$LAB_NOTES/background"
