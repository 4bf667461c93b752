//! Configuration files of the servers.

use std::path::Path;

/// Static files, or a proxy of the server at port `behind`. Its workers are not root.
pub(super) fn nginx(folder: &Path, data: &Path, port: u16, behind: u16) -> String {
    let (folder, data) = (folder.display(), data.display());
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {data}/{kind};\n"))
        .collect();
    let (upstream, location) = if behind == 0 {
        (String::new(), format!("root {folder};"))
    } else {
        (
            format!("upstream behind {{ server 127.0.0.1:{behind}; keepalive 16; }}"),
            "proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Connection \"\";"
                .to_owned(),
        )
    };
    format!(
        "daemon off; user www-data; worker_processes 1; pid {folder}/pid;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log {data}/access.log; sendfile on; keepalive_requests 1000;\n\
         {temporary}{upstream}\n\
         server {{ listen 127.0.0.1:{port}; location / {{ {location} }} }} }}\n"
    )
}

/// Static files, or a proxy of the server at port `behind`. Its workers are not root.
pub(super) fn apache(folder: &Path, data: &Path, port: u16, behind: u16) -> String {
    let (folder, data) = (folder.display(), data.display());
    let modules: String = ["mpm_event", "authz_core", "proxy", "proxy_http"]
        .iter()
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
        .collect();
    let content = if behind == 0 {
        format!("DocumentRoot {folder}\n<Directory {folder}>\nRequire all granted\n</Directory>")
    } else {
        format!("ProxyPass / http://127.0.0.1:{behind}/")
    };
    format!(
        "ServerRoot {folder}\n{modules}\
         PidFile {folder}/pid\nDefaultRuntimeDir {folder}\n\
         User www-data\nGroup www-data\nServerName localhost\nListen 127.0.0.1:{port}\n\
         KeepAlive On\nMaxKeepAliveRequests 1000\nStartServers 2\nThreadsPerChild 64\n\
         ErrorLog {data}/error.log\nCustomLog {data}/access.log \"%h %r %>s %b\"\n{content}\n"
    )
}

pub(super) fn lighttpd(folder: &Path, data: &Path, port: u16) -> String {
    let (folder, data) = (folder.display(), data.display());
    format!(
        "server.bind = \"127.0.0.1\"\nserver.port = {port}\n\
         server.document-root = \"{folder}\"\nserver.username = \"www-data\"\n\
         server.modules = ( \"mod_accesslog\" )\naccesslog.filename = \"{data}/access.log\"\n\
         server.errorlog = \"{data}/error.log\"\nserver.upload-dirs = ( \"{data}\" )\n"
    )
}

pub(super) fn haproxy(port: u16, behind: u16) -> String {
    format!(
        "global\n  nbthread 2\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
         frontend front\n  bind 127.0.0.1:{port}\n  default_backend behind\n\
         backend behind\n  server one 127.0.0.1:{behind}\n"
    )
}

pub(super) fn mosquitto(data: &Path, port: u16) -> String {
    let data = data.display();
    format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n\
         persistence true\npersistence_location {data}/\nautosave_interval 5\n\
         log_dest file {data}/log\nlog_type error\nlog_type warning\n"
    )
}

pub(super) fn rabbitmq(port: u16, amqp: u16) -> String {
    format!(
        "listeners.tcp.1 = 127.0.0.1:{amqp}\nmqtt.listeners.tcp.1 = 127.0.0.1:{port}\n\
         default_user = bench\ndefault_pass = bench\nloopback_users = none\n"
    )
}
