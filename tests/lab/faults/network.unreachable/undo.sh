. "$LAB_LIB/lab.sh"
case $LAB_P_HOW in
rule) no_rules ;;
route)
    ip route del unreachable "$LAB_DEPENDENCY_ADDRESS/32" 2>/dev/null
    ip route replace "$LAB_DEPENDENCY_ADDRESS/32" dev pod0
    ;;
esac
