# Joins the pod's network with that of its clients and dependencies, and makes the pod's folders.
set -e
ip link set lo up
ip link add pod0 type veth peer name out0 netns "$LAB_OUTSIDE_PID"
ip addr add "$LAB_POD_ADDRESS/30" dev pod0
ip link set pod0 up
nsenter --net="$LAB_OUTSIDE_NET" sh -c "
    ip link set lo up
    ip addr add $LAB_CLIENT_ADDRESS/30 dev out0
    ip addr add $LAB_DEPENDENCY_ADDRESS/32 dev out0
    ip link set out0 up"
ip route add "$LAB_DEPENDENCY_ADDRESS/32" dev pod0
mount -t tmpfs -o size=1M lab /srv
for folder in "$LAB_HOST_WORK $LAB_WORK" "$LAB_HOST_APP $LAB_APP" "$LAB_HOST_LIB $LAB_LIB" \
    "$LAB_HOST_BIN $LAB_BIN"; do
    mkdir "${folder##* }"
    mount --bind "${folder% *}" "${folder##* }"
done
if [ "$LAB_DISK" -gt 0 ]; then
    mount -t tmpfs -o "size=$LAB_DISK,mode=1777" lab "$LAB_DATA"
fi
chmod 1777 "$LAB_DATA"
