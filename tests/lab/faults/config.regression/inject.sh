. "$LAB_LIB/lab.sh"
if [ "$LAB_P_WHICH" = second ]; then sh -c "$LAB_P_SECOND"; else sh -c "$LAB_P_FIRST"; fi
