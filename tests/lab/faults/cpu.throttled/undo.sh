. "$LAB_LIB/lab.sh"
limit cpu max
