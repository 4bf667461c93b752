. "$LAB_LIB/lab.sh"
mv "$LAB_P_PATH" "$LAB_P_PATH.away"
case $LAB_P_HOW in
folder) mkdir "$LAB_P_PATH" ;;
loop) ln -s "$LAB_P_PATH" "$LAB_P_PATH" ;;
esac
