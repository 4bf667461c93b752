. "$LAB_LIB/lab.sh"
disk=$LAB_DATA
[ -d "$LAB_WORK/disk" ] && disk=$LAB_WORK/disk
case $LAB_P_HOW in
disk) mount -o remount,rw "$disk" ;;
mount) umount "$LAB_DATA" ;;
esac
