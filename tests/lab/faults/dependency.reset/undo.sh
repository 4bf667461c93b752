. "$LAB_LIB/lab.sh"
case $LAB_P_HOW in
relay) relay ;;
rule) no_rules ;;
esac
