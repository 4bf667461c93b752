cp -p "$LAB_NOTES/file" "$LAB_P_PATH.new"
mv "$LAB_P_PATH.new" "$LAB_P_PATH"
rm -f "$LAB_P_PATH.away"
