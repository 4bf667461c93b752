. "$LAB_LIB/lab.sh"
rm -f "$LAB_P_PATH" 2>/dev/null || rmdir "$LAB_P_PATH"
mv "$LAB_P_PATH.away" "$LAB_P_PATH"
