. "$LAB_LIB/lab.sh"
echo "$LAB_P_WHICH"
