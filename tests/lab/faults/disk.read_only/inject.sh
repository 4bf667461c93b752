. "$LAB_LIB/lab.sh"
disk=$LAB_DATA
[ -d "$LAB_WORK/disk" ] && disk=$LAB_WORK/disk
case $LAB_P_HOW in
disk)
    # A disk is not made read-only while a file is open for writing.
    for round in $(seq 200); do
        mount -o remount,ro "$disk" 2>/dev/null && break
        sleep 0.02
    done
    grep " $disk .*[ ,]ro[, ]" /proc/mounts
    ;;
mount)
    mount --bind "$LAB_DATA" "$LAB_DATA"
    mount -o remount,bind,ro "$LAB_DATA"
    ;;
esac
