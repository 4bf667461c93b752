. "$LAB_LIB/lab.sh"
end_background
limit pids max
