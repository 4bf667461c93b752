# A disk that can fail.
set -e
. "$LAB_LIB/lab.sh"
chown redis "$LAB_DATA"
mount_faulty
