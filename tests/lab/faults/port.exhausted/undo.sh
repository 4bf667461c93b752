. "$LAB_LIB/lab.sh"
cat "$LAB_NOTES/was" >/proc/sys/net/ipv4/ip_local_port_range
