. "$LAB_LIB/lab.sh"
faulty
