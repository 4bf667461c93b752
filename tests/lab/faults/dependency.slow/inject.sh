. "$LAB_LIB/lab.sh"
relay "delay_ms=$LAB_P_DELAY_MS"
