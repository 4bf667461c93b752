. "$LAB_LIB/lab.sh"
case $LAB_P_HOW in
drop) no_rules ;;
stop) xargs kill -CONT <"$LAB_NOTES/stopped" ;;
esac
