. "$LAB_LIB/lab.sh"
shell() {
    while :; do
        in_container sh -c "$LAB_P_COMMAND"
        sleep "$LAB_P_EVERY"
    done
}
shell &
echo $! >"$LAB_NOTES/background"
