//! Starts a server of the corpus, new, with data of its own on a small disk of its own.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::configs;
use super::fault::{ask, psql};
use super::product::Product;
use crate::lab::{Lab, free_port, processes_in, system_path, wait_for_listener};
use crate::workspace::Workspace;

/// What Stethos records; the server's own cgroup lies below it.
pub(super) const POD: &str = "pod";
/// Where the server behind a proxy runs.
pub(super) const BEHIND: &str = "behind";
const START_LIMIT: Duration = Duration::from_secs(60);
/// Bytes of the disk.
const DISK: u64 = 512 << 20;
/// Files that HTTP servers answer with.
const PAGES: [(&str, usize); 3] = [
    ("small.txt", 200),
    ("page.html", 8_000),
    ("big.bin", 300_000),
];
const NODE: &str = include_str!("programs/node.js");
const NODE_FILES: &str = include_str!("programs/node_files.js");
const THREADS: &str = include_str!("programs/threads.py");
const ASYNCIO: &str = include_str!("programs/asyncio_server.py");
const JAVA: &str = include_str!("programs/Java.java");
const JAVA_SOCKETS: &str = include_str!("programs/JavaSockets.java");
const GO: &str = include_str!("programs/server.go.txt");

/// A running server.
pub(super) struct Running {
    pub(super) product: &'static str,
    pub(super) port: u16,
    /// Its cgroup.
    pub(super) group: String,
    cgroup: PathBuf,
    /// With its configuration and its pages.
    pub(super) folder: PathBuf,
    /// On a disk of its own.
    pub(super) data: PathBuf,
    processes: Vec<Child>,
}

impl Running {
    pub(super) fn start(workspace: &Workspace, lab: &Lab, product: &Product) -> Result<Self> {
        let group = format!("{POD}/{}", product.name);
        let folder = lab.folder("server")?;
        for (name, size) in PAGES {
            let page = folder.join(name);
            fs::write(&page, "x".repeat(size)).with_context(|| page.display().to_string())?;
        }
        let data = lab.disk("data", DISK)?;
        fs::set_permissions(&data, fs::Permissions::from_mode(0o777))?;
        let mut running = Self {
            product: product.name,
            port: free_port()?,
            cgroup: lab.cgroup(&group),
            group,
            folder,
            data,
            processes: Vec::new(),
        };
        let behind = if product.asks() {
            running.behind(workspace, lab)?
        } else {
            0
        };
        let mut command = running.command(workspace, behind)?;
        running.spawn(lab, &running.group.clone(), &mut command)?;
        running.wait_for(running.port)?;
        running.prepare()?;
        Ok(running)
    }

    /// The server that answers behind a proxy; gives its port.
    fn behind(&mut self, workspace: &Workspace, lab: &Lab) -> Result<u16> {
        let port = free_port()?;
        let mut command = Command::new(workspace.binary("bench-units"));
        command.args(["serve", &port.to_string()]);
        self.spawn(lab, BEHIND, &mut command)?;
        self.wait_for(port)?;
        Ok(port)
    }

    fn command(&self, workspace: &Workspace, behind: u16) -> Result<Command> {
        let (folder, data) = (self.folder.as_path(), self.data.as_path());
        let port = self.port;
        let text = port.to_string();
        let write = |name: &str, content: &str| -> Result<String> {
            let path = folder.join(name);
            fs::write(&path, content).with_context(|| path.display().to_string())?;
            Ok(path.display().to_string())
        };
        let place = |folder: &Path| folder.display().to_string();
        let mut command;
        match self.product {
            "nginx" | "nginx-proxy" => {
                let config = write("nginx.conf", &configs::nginx(folder, data, port, behind))?;
                command = Command::new("nginx");
                command.args(["-c", &config, "-p", &place(folder), "-e", "stderr"]);
            }
            "apache" | "apache-proxy" => {
                let config = write("apache.conf", &configs::apache(folder, data, port, behind))?;
                command = Command::new("apache2");
                command.args(["-DFOREGROUND", "-f", &config]);
            }
            "lighttpd" => {
                let config = write("lighttpd.conf", &configs::lighttpd(folder, data, port))?;
                command = Command::new("lighttpd");
                command.args(["-D", "-f", &config]);
            }
            "haproxy" => {
                let config = write("haproxy.cfg", &configs::haproxy(port, behind))?;
                command = Command::new("haproxy");
                command.args(["-db", "-f", &config]);
            }
            "redis" => {
                command = Command::new("redis-server");
                command.args(["--port", &text, "--bind", "127.0.0.1", "--save", ""]);
                command.args(["--appendonly", "yes", "--dir", &place(data)]);
            }
            "memcached" => {
                command = Command::new("memcached");
                command.args(["-p", &text, "-l", "127.0.0.1", "-u", "root", "-t", "2"]);
            }
            "postgres" => command = postgres(data, port)?,
            "mariadb" => command = mariadb(folder, data, port)?,
            "mosquitto" => {
                let config = write("mosquitto.conf", &configs::mosquitto(data, port))?;
                command = Command::new("mosquitto");
                command.args(["-c", &config]);
            }
            "rabbitmq" => command = rabbitmq(folder, data, port)?,
            "nats" => {
                command = Command::new("nats-server");
                command.args(["-a", "127.0.0.1", "-p", &text]);
            }
            "node" => {
                command = Command::new("node");
                command.args([&write("server.js", NODE)?, &text]);
            }
            "node-files" => {
                command = Command::new("node");
                command.args([&write("server.js", NODE_FILES)?, &text]);
            }
            "python" => {
                command = Command::new("/usr/bin/python3");
                command.args([&write("server.py", THREADS)?, &text]);
            }
            "python-asyncio" => {
                command = Command::new("/usr/bin/python3");
                command.args([&write("server.py", ASYNCIO)?, &text]);
            }
            "java" => {
                command = Command::new("java");
                command.args(["-Xmx128m", &write("Server.java", JAVA)?, &text]);
            }
            "java-sockets" => {
                command = Command::new("java");
                command.args(["-Xmx128m", &write("Server.java", JAVA_SOCKETS)?, &text]);
            }
            "go" => {
                let program = place(&folder.join("program"));
                let source = write("server.go", GO)?;
                ask("go", &["build", "-o", &program, &source])?;
                command = Command::new(program);
                command.arg(&text);
            }
            "tokio" => {
                command = Command::new(workspace.binary("bench-units"));
                command.args(["serve", &text]);
            }
            "tokio-asking" => {
                command = Command::new(workspace.binary("bench-units"));
                command.args(["serve", &text, &behind.to_string()]);
            }
            other => bail!("{other} cannot be started"),
        }
        Ok(command)
    }

    /// What has to be there before the load comes.
    fn prepare(&self) -> Result<()> {
        const TABLE: &str = "CREATE TABLE item (id int PRIMARY KEY, n int, text text)";
        match self.product {
            "postgres" => {
                let port = self.port.to_string();
                psql(&port, TABLE)?;
                psql(
                    &port,
                    "INSERT INTO item SELECT i, 0, repeat('y', 100) FROM generate_series(1, 2000) i",
                )
            }
            "mariadb" => {
                let socket = self.folder.join("mariadb.sock").display().to_string();
                let statements = format!(
                    "CREATE DATABASE bench; USE bench; {TABLE}; \
                     INSERT INTO item SELECT seq, 0, repeat('y', 100) FROM seq_1_to_2000"
                );
                ask(
                    "mariadb",
                    &["--no-defaults", "-S", &socket, "-e", &statements],
                )
            }
            _ => Ok(()),
        }
    }

    fn spawn(&mut self, lab: &Lab, group: &str, command: &mut Command) -> Result<()> {
        let log = self.folder.join("log");
        let log = File::options().create(true).append(true).open(&log)?;
        command
            .env("PATH", system_path())
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let started = lab.spawn(group, command)?;
        self.keep(started);
        Ok(())
    }

    /// It ends with the server.
    pub(super) fn keep(&mut self, process: Child) {
        self.processes.push(process);
    }

    fn wait_for(&mut self, port: u16) -> Result<()> {
        let listens = wait_for_listener(port, START_LIMIT, || self.check());
        listens.with_context(|| self.log())
    }

    fn log(&self) -> String {
        let text = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let last: Vec<&str> = text.lines().rev().take(5).collect();
        last.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Says so when a process ended by itself.
    pub(super) fn check(&mut self) -> Result<()> {
        for process in &mut self.processes {
            if let Some(status) = process.try_wait()? {
                bail!("a process ended: {status}: {}", self.log());
            }
        }
        Ok(())
    }

    /// The server's processes.
    pub(super) fn pids(&self) -> Result<Vec<u32>> {
        processes_in(&self.cgroup)
    }

    /// The process that was started.
    pub(super) fn main_pid(&self) -> Result<u32> {
        let server = self.processes.last().context("no process")?;
        Ok(server.id())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // What it started goes with the lab.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// PostgreSQL refuses to run as root.
fn postgres(data: &Path, port: u16) -> Result<Command> {
    let versions = fs::read_dir("/usr/lib/postgresql").context("/usr/lib/postgresql")?;
    let newest = versions.flatten().map(|entry| entry.path()).max();
    let programs = newest.context("no version of PostgreSQL")?.join("bin");
    let database = data.join("database").display().to_string();
    let user = ["--reuid=postgres", "--regid=postgres", "--clear-groups"];
    let initdb = programs.join("initdb").display().to_string();
    let options = ["-D", &database, "-U", "postgres", "-A", "trust", "-N"];
    ask("setpriv", &[&user[..], &[&initdb], &options].concat())?;
    let mut command = Command::new("setpriv");
    command.args(user).arg(programs.join("postgres")).args([
        "-D",
        &database,
        "-p",
        &port.to_string(),
    ]);
    for setting in [
        "listen_addresses=127.0.0.1",
        &format!("unix_socket_directories={}", data.display()),
        "shared_buffers=16MB",
        "max_wal_size=64MB",
        "max_connections=120",
    ] {
        command.args(["-c", setting]);
    }
    Ok(command)
}

fn mariadb(folder: &Path, data: &Path, port: u16) -> Result<Command> {
    let database = format!("--datadir={}", data.join("database").display());
    let common = ["--no-defaults", "--user=root", &database];
    let install = ["--auth-root-authentication-method=normal", "--skip-test-db"];
    ask("mariadb-install-db", &[&common[..], &install].concat())?;
    let mut command = Command::new("mariadbd");
    command
        .args(common)
        .arg(format!(
            "--socket={}",
            folder.join("mariadb.sock").display()
        ))
        .arg(format!("--pid-file={}", folder.join("pid").display()))
        .arg(format!("--port={port}"))
        // Whoever asks is let in.
        .args(["--skip-grant-tables", "--bind-address=127.0.0.1"])
        .args(["--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M"]);
    Ok(command)
}

fn rabbitmq(folder: &Path, data: &Path, port: u16) -> Result<Command> {
    let write = |name: &str, text: &str| -> Result<PathBuf> {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path)
    };
    let config = write("rabbitmq.conf", &configs::rabbitmq(port, free_port()?))?;
    let plugins = write("plugins", "[rabbitmq_mqtt].\n")?;
    let mut command = Command::new("/usr/lib/rabbitmq/bin/rabbitmq-server");
    command
        .env("HOME", folder)
        .env("RABBITMQ_NODENAME", format!("bench{port}@localhost"))
        .env("RABBITMQ_DIST_PORT", free_port()?.to_string())
        .env("ERL_EPMD_PORT", free_port()?.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_MNESIA_BASE", data)
        .env("RABBITMQ_LOG_BASE", folder)
        .env("RABBITMQ_PID_FILE", folder.join("pid"))
        .env("RABBITMQ_CONFIG_FILE", config)
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", plugins);
    Ok(command)
}
