. "$LAB_LIB/lab.sh"
case $LAB_P_HOW in
relay) relay ;;
queue) tc qdisc del dev pod0 root ;;
esac
