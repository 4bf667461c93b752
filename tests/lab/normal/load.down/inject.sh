. "$LAB_LIB/lab.sh"
load_factor "$LAB_P_FACTOR"
