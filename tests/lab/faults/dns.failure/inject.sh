. "$LAB_LIB/lab.sh"
case $LAB_P_HOW in
drop) rule out udp dport 53 drop ;;
stop)
    pids_of >"$LAB_NOTES/stopped"
    xargs kill -STOP <"$LAB_NOTES/stopped"
    ;;
esac
