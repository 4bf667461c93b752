# Prices, switches, a database, a resolver, a disk that can fail.
set -e
. "$LAB_LIB/lab.sh"
sh "$LAB_LIB/postgres.sh" prepare
prices=$(for item in $(seq 60); do printf '"%s": %s.5, ' "$item" "$item"; done)
echo "{${prices%, }}" >"$LAB_WORK/prices.json"
cat >"$LAB_WORK/features.json" <<END
{"keep_alive": true, "fd_leak": 0, "memory_leak_kb": 0, "lock_ms": 0, "deadlock": ""}
END
chown www-data "$LAB_WORK/prices.json"
printf 'nameserver %s\noptions timeout:1 attempts:2\n' "$LAB_DEPENDENCY_ADDRESS" >"$LAB_WORK/resolv.conf"
mount --bind "$LAB_WORK/resolv.conf" /etc/resolv.conf
mount_faulty
