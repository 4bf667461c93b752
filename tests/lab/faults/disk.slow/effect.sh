. "$LAB_LIB/lab.sh"
echo "every write and sync takes $LAB_P_DELAY_MS ms"
