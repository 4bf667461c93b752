. "$LAB_LIB/lab.sh"
switch "$LAB_P_SWITCH" "$LAB_P_VALUE"
