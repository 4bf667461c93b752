. "$LAB_LIB/lab.sh"
crash() {
    while :; do
        kill "-$LAB_P_SIGNAL" "$(pid_of)"
        sleep "$LAB_P_EVERY"
    done
}
crash &
echo $! >"$LAB_NOTES/background"
