. "$LAB_LIB/lab.sh"
read -r mode owner <"$LAB_NOTES/was"
chown "$owner" "$LAB_P_PATH"
chmod "$mode" "$LAB_P_PATH"
