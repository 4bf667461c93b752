# Configuration.
set -e
mkdir -p "$LAB_WORK/temporary"
chown -R www-data "$LAB_WORK/temporary" "$LAB_DATA"
cat >"$LAB_WORK/nginx.conf" <<END
daemon off; user www-data; worker_processes 1; pid $LAB_WORK/nginx.pid;
events { worker_connections 512; }
http {
    access_log $LAB_DATA/access.log; error_log $LAB_LOGS/nginx.error.log; keepalive_requests 1000;
    client_body_temp_path $LAB_WORK/temporary; proxy_temp_path $LAB_WORK/temporary;
    fastcgi_temp_path $LAB_WORK/temporary; uwsgi_temp_path $LAB_WORK/temporary;
    scgi_temp_path $LAB_WORK/temporary;
    upstream web { server $LAB_ADDRESS_WEB max_fails=0; keepalive 16; }
    server {
        listen 8080;
        location / {
            proxy_pass http://web; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_connect_timeout 2s; proxy_read_timeout 2s; proxy_send_timeout 2s;
        }
    }
}
END
