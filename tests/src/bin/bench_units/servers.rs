//! The servers, each in the cgroup that is watched.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use stethos_tests::cgroup::Cgroup;
use tempfile::TempDir;

use stethos_tests::load::Protocol;

pub(crate) struct Server {
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
    children: Vec<Child>,
    folder: TempDir,
}

impl Server {
    pub(crate) fn start(app: &str, cgroup: &Cgroup) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        files(folder.path())?;
        let port = free_port()?;
        let mut children = Vec::new();
        let behind = if matches!(app, "nginx-proxy" | "haproxy") {
            let behind = free_port()?;
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["serve", &behind.to_string()]);
            children.push(command.spawn()?);
            wait_for(behind, app)?;
            behind
        } else {
            0
        };
        let mut command = command(app, folder.path(), port, behind)?;
        command
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("errors"))?);
        let child = cgroup.spawn(&mut command);
        children.push(child.with_context(|| format!("{app} cannot be started"))?);
        let server = Server {
            protocol: match app {
                "redis" => Protocol::Redis,
                "memcached" => Protocol::Memcached,
                _ => Protocol::Http,
            },
            port,
            children,
            folder,
        };
        if let Err(error) = wait_for(port, app) {
            let errors = server.folder.path().join("errors");
            bail!("{error}: {}", fs::read_to_string(errors)?);
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for child in &mut self.children {
            // One that is gone already is what is wanted.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn files(folder: &Path) -> anyhow::Result<()> {
    for (name, size) in [
        ("small.txt", 200),
        ("page.html", 8_000),
        ("big.bin", 300_000),
    ] {
        fs::write(folder.join(name), "x".repeat(size))?;
    }
    Ok(())
}

fn command(app: &str, folder: &Path, port: u16, behind: u16) -> anyhow::Result<Command> {
    let text = port.to_string();
    let write = |name: &str, content: &str| -> anyhow::Result<String> {
        let path = folder.join(name);
        fs::write(&path, content)?;
        Ok(path.display().to_string())
    };
    let mut command;
    match app {
        "redis" => {
            command = Command::new("redis-server");
            command.args(["--port", &text, "--bind", "127.0.0.1", "--save", ""]);
            command.args(["--appendonly", "yes"]);
        }
        "memcached" => {
            command = Command::new("memcached");
            command.args(["-p", &text, "-l", "127.0.0.1", "-u", "root", "-t", "2"]);
        }
        "nginx" | "nginx-proxy" => {
            let config = write("nginx.conf", &nginx(folder, port, behind))?;
            command = Command::new("nginx");
            command.args(["-c", &config, "-p", &folder.display().to_string()]);
        }
        "haproxy" => {
            let config = write("haproxy.cfg", &haproxy(port, behind))?;
            command = Command::new("haproxy");
            command.args(["-db", "-f", &config]);
        }
        "node" => {
            command = Command::new("node");
            command.args([
                &write("server.js", include_str!("../../../servers/node.js"))?,
                &text,
            ]);
        }
        "python" => {
            command = Command::new("/usr/bin/python3");
            command.args([
                &write("server.py", include_str!("../../../servers/threads.py"))?,
                &text,
            ]);
        }
        "go" => {
            let program = folder.join("server").display().to_string();
            let source = write("server.go", include_str!("../../../servers/server.go.txt"))?;
            let mut build = Command::new("go");
            build.args(["build", "-o", &program, &source]);
            if !build.status().context("go is missing")?.success() {
                bail!("the Go server cannot be built");
            }
            command = Command::new(program);
            command.arg(&text);
        }
        "tokio" => {
            command = Command::new(std::env::current_exe()?);
            command.args(["serve", &text]);
        }
        _ => bail!("{app} is no known server"),
    }
    Ok(command)
}

fn nginx(folder: &Path, port: u16, behind: u16) -> String {
    let folder = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {folder}/{kind};\n"))
        .collect();
    let (upstream, location) = if behind == 0 {
        (String::new(), format!("root {folder};"))
    } else {
        let pass = "proxy_pass http://behind; proxy_http_version 1.1; \
                    proxy_set_header Connection \"\";";
        (
            format!("upstream behind {{ server 127.0.0.1:{behind}; keepalive 16; }}"),
            pass.to_owned(),
        )
    };
    format!(
        "daemon off; user root; worker_processes 1; pid {folder}/pid; error_log {folder}/log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log {folder}/access.log; sendfile on; keepalive_requests 1000;\n\
         {temporary}{upstream}\n\
         server {{ listen 127.0.0.1:{port}; location / {{ {location} }} }} }}\n"
    )
}

fn haproxy(port: u16, behind: u16) -> String {
    format!(
        "global\n  nbthread 2\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
         frontend front\n  bind 127.0.0.1:{port}\n  default_backend behind\n\
         backend behind\n  server one 127.0.0.1:{behind}\n"
    )
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn wait_for(port: u16, app: &str) -> anyhow::Result<()> {
    let until = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if Instant::now() > until {
            bail!("{app} does not listen");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
