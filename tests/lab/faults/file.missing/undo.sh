cp -a "$LAB_NOTES/file" "$LAB_P_PATH.new"
mv "$LAB_P_PATH.new" "$LAB_P_PATH"
rm -rf "$LAB_P_PATH.away"
