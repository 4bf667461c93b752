. "$LAB_LIB/lab.sh"
background env LAB_RATE="$LAB_P_RATE" LAB_FACTOR=/dev/null nsenter --net="$LAB_OUTSIDE_NET" /usr/bin/python3 "$LAB_LIB/load.py" $LAB_P_MIX >/dev/null 2>&1
