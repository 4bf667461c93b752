. "$LAB_LIB/lab.sh"
keep_down
injected
end "$LAB_P_SIGNAL"
