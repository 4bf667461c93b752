. "$LAB_LIB/lab.sh"
case $LAB_P_HOW in
stop) xargs kill -CONT <"$LAB_NOTES/stopped" ;;
hold) relay ;;
esac
