# Configuration, pages and a disk for the log.
set -e
mkdir -p "$LAB_WORK/www/data" "$LAB_WORK/temporary"
chmod 755 "$LAB_WORK/www"
head -c 200 /dev/zero | tr '\0' x >"$LAB_WORK/www/small.txt"
head -c 8000 /dev/zero | tr '\0' x >"$LAB_WORK/www/page.html"
head -c 300000 /dev/zero | tr '\0' x >"$LAB_WORK/www/big.bin"
for item in $(seq 60); do echo "item $item" >"$LAB_WORK/www/data/item$item"; done
chown -R www-data "$LAB_WORK/www" "$LAB_WORK/temporary" "$LAB_DATA"
cat >"$LAB_WORK/nginx.conf" <<END
daemon off; user www-data; worker_processes 1; pid $LAB_WORK/nginx.pid;
events { worker_connections 512; }
http {
    access_log $LAB_DATA/access.log; error_log $LAB_LOGS/nginx.error.log;
    sendfile on; keepalive_requests 1000; default_type text/plain;
    client_body_temp_path $LAB_WORK/temporary; proxy_temp_path $LAB_WORK/temporary;
    fastcgi_temp_path $LAB_WORK/temporary; uwsgi_temp_path $LAB_WORK/temporary;
    scgi_temp_path $LAB_WORK/temporary;
    server { listen 8080; root $LAB_WORK/www; }
}
END
