. "$LAB_LIB/lab.sh"
for way in "out ip daddr" "in ip saddr"; do
    rule $way "$LAB_DEPENDENCY_ADDRESS" meta l4proto tcp numgen random mod 100 '<' "$LAB_P_PERCENT" drop
done
