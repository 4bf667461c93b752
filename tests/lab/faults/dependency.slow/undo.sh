. "$LAB_LIB/lab.sh"
relay
