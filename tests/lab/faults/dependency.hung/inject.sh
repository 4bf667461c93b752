. "$LAB_LIB/lab.sh"
case $LAB_P_HOW in
stop)
    pids_of >"$LAB_NOTES/stopped"
    xargs kill -STOP <"$LAB_NOTES/stopped"
    ;;
hold) relay state=hold ;;
esac
