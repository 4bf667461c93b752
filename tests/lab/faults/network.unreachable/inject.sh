. "$LAB_LIB/lab.sh"
case $LAB_P_HOW in
rule) rule out ip daddr "$LAB_DEPENDENCY_ADDRESS" meta l4proto tcp reject with icmp host-unreachable ;;
route) ip route replace unreachable "$LAB_DEPENDENCY_ADDRESS/32" ;;
esac
