. "$LAB_LIB/lab.sh"
echo "sh ran in the container"
