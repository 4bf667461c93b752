. "$LAB_LIB/lab.sh"
echo "$LAB_P_TIMES more clients, each $LAB_P_RATE requests a second"
