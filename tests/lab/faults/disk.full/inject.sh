. "$LAB_LIB/lab.sh"
disk=$LAB_DATA
[ -d "$LAB_WORK/disk" ] && disk=$LAB_WORK/disk
case $LAB_P_HOW in
bytes)
    for block in 65536 4096 512; do
        dd if=/dev/zero bs=$block oflag=append conv=notrunc of="$disk/filler" 2>/dev/null
    done
    injected
    ;;
files)
    used=$(df --output=iused "$disk" | tail -n 1)
    mount -o "remount,nr_inodes=$((used + 1))" "$disk"
    touch "$disk/filler"
    ;;
esac
true
