. "$LAB_LIB/lab.sh"
faulty "delay_ms=$LAB_P_DELAY_MS" ops=write,fsync
