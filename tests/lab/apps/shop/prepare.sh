# Prices and settings.
set -e
mkdir "$LAB_WORK/config"
prices=$(for item in $(seq 60); do printf '"%s": %s.5, ' "$item" "$item"; done)
echo "{${prices%, }}" >"$LAB_WORK/config/prices.json"
echo '{"keep_alive": true, "cache_seconds": 5}' >"$LAB_WORK/config/settings.json"
chown -R www-data "$LAB_WORK/config"
