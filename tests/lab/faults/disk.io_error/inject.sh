. "$LAB_LIB/lab.sh"
faulty errno=EIO "ops=$LAB_P_OPS"
