. "$LAB_LIB/lab.sh"
load_factor 1
