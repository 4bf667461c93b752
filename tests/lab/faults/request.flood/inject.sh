. "$LAB_LIB/lab.sh"
for client in $(seq "$LAB_P_TIMES"); do
    background env LAB_RATE="$LAB_P_RATE" LAB_FACTOR=/dev/null nsenter --net="$LAB_OUTSIDE_NET" $LAB_LOAD >/dev/null 2>&1
done
