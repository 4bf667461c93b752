. "$LAB_LIB/lab.sh"
case $LAB_P_HOW in
relay) relay "bytes_per_second=$LAB_P_BYTES_PER_SECOND" ;;
queue) tc qdisc add dev pod0 root tbf rate "$((LAB_P_BYTES_PER_SECOND * 8))" burst 3000 latency 2s ;;
esac
