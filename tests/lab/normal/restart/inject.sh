. "$LAB_LIB/lab.sh"
end "$LAB_P_SIGNAL"
