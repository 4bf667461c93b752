. "$LAB_LIB/lab.sh"
let_up
