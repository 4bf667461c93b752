. "$LAB_LIB/lab.sh"
no_rules
