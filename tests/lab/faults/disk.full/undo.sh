. "$LAB_LIB/lab.sh"
disk=$LAB_DATA
[ -d "$LAB_WORK/disk" ] && disk=$LAB_WORK/disk
rm -f "$disk/filler"
mount -o remount,nr_inodes=100000 "$disk"
