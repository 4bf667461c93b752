. "$LAB_LIB/lab.sh"
upper=$(printf %s "$LAB_NAME" | tr a-z- A-Z_)
eval "port=\$LAB_PORT_$upper"
case $LAB_P_CHAIN in
out) rule out ip daddr "$LAB_DEPENDENCY_ADDRESS" tcp dport "$port" drop ;;
in) rule in ip saddr "$LAB_DEPENDENCY_ADDRESS" tcp sport "$port" drop ;;
esac
