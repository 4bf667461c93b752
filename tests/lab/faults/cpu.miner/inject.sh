. "$LAB_LIB/lab.sh"
background outside /usr/bin/python3 "$LAB_FAULT/pool.py" "$LAB_CLIENT_ADDRESS"
sleep 0.5
injected
background in_container /usr/bin/python3 "$LAB_FAULT/miner.py" "$LAB_CLIENT_ADDRESS" "$LAB_P_THREADS"
