. "$LAB_LIB/lab.sh"
echo "$LAB_P_HOGS loops on the processor of the pod"
