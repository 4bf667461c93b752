. "$LAB_LIB/lab.sh"
count=$(ls "/proc/$(pid_of)/fd" | wc -l)
echo "$count descriptors"
[ "$count" -gt 60 ]
