# Pages and switches.
set -e
. "$LAB_LIB/lab.sh"
mkdir "$LAB_WORK/pages"
for page in $(seq 60); do head -c $((page * 90)) /dev/zero | tr '\0' p >"$LAB_WORK/pages/page$page"; done
chown -R www-data "$LAB_WORK/pages"
echo '{"keep_alive": true, "fd_leak": 0, "memory_leak_kb": 0}' >"$LAB_WORK/features.json"
mount_faulty
