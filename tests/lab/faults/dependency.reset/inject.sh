. "$LAB_LIB/lab.sh"
case $LAB_P_HOW in
relay) relay state=reset ;;
rule)
    upper=$(printf %s "$LAB_NAME" | tr a-z- A-Z_)
    eval "port=\$LAB_PORT_$upper"
    rule out ip daddr "$LAB_DEPENDENCY_ADDRESS" tcp dport "$port" 'tcp flags & (syn | psh) == psh' \
        reject with tcp reset
    ;;
esac
