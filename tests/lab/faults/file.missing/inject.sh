cp -a "$LAB_P_PATH" "$LAB_NOTES/file"
case $LAB_P_HOW in
move) mv "$LAB_P_PATH" "$LAB_P_PATH.away" ;;
remove) rm -r "$LAB_P_PATH" ;;
esac
