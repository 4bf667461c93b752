. "$LAB_LIB/lab.sh"
pids_of | xargs ps -o comm,%cpu,args -p | grep miner.py
