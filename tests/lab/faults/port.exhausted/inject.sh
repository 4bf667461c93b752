. "$LAB_LIB/lab.sh"
cat /proc/sys/net/ipv4/ip_local_port_range >"$LAB_NOTES/was"
echo "40000 $LAB_P_LAST" >/proc/sys/net/ipv4/ip_local_port_range
