. "$LAB_LIB/lab.sh"
sh -c "$LAB_P_COMMAND"
