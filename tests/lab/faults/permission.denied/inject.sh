. "$LAB_LIB/lab.sh"
stat -c '%a %u:%g' "$LAB_P_PATH" >"$LAB_NOTES/was"
case $LAB_P_HOW in
mode) chmod 000 "$LAB_P_PATH" ;;
owner)
    chown 0:0 "$LAB_P_PATH"
    chmod 600 "$LAB_P_PATH"
    ;;
esac
