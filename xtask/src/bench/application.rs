//! Real servers, each in a cgroup of its own, on loopback.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::processors::{Processor, pin};
use crate::lab::{Lab, free_port, processes_in, system_path, wait_for_listener};

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Server {
    Redis,
    /// nginx with static files.
    Nginx,
    /// haproxy before nginx.
    Proxy,
    /// A small HTTP server on Node.
    Node,
}

/// What Stethos is told to watch; the server's own cgroup lies below it.
pub(super) const POD: &str = "pod";
const BACKEND: &str = "backend/nginx";
/// Paths that HTTP servers answer: `/0` to `/15`, of different sizes.
pub(super) const PAGES: usize = 16;
const START_LIMIT: Duration = Duration::from_secs(10);

impl Server {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Nginx => "nginx",
            Self::Proxy => "proxy",
            Self::Node => "node",
        }
    }

    /// Its cgroup, which Stethos names the container after.
    pub(super) fn group(self) -> String {
        format!("{POD}/{}", self.name())
    }
}

/// A running server, with what it needs.
pub(super) struct Application<'a> {
    lab: &'a Lab,
    pub(super) server: Server,
    pub(super) port: u16,
    processes: Vec<Child>,
}

impl<'a> Application<'a> {
    /// Starts it on the highest processor, and waits until it listens.
    pub(super) fn start(lab: &'a Lab, server: Server) -> Result<Self> {
        let mut application = Self {
            lab,
            server,
            port: free_port()?,
            processes: Vec::new(),
        };
        let (port, group) = (application.port, server.group());
        match server {
            Server::Redis => {
                let mut redis = Command::new("redis-server");
                redis.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
                redis.args(["--port", &port.to_string()]);
                application.run(&group, &mut redis, port)?;
            }
            Server::Nginx => application.nginx(&group, port)?,
            Server::Proxy => {
                let backend = free_port()?;
                application.nginx(BACKEND, backend)?;
                let file = lab.path("haproxy.cfg");
                write(&file, &haproxy(port, backend))?;
                let mut proxy = Command::new("haproxy");
                proxy.arg("-db").arg("-f").arg(&file);
                application.run(&group, &mut proxy, port)?;
            }
            Server::Node => {
                let file = lab.path("server.js");
                write(&file, NODE)?;
                let mut node = Command::new("node");
                node.arg(&file).arg(port.to_string());
                application.run(&group, &mut node, port)?;
            }
        }
        Ok(application)
    }

    fn nginx(&mut self, group: &str, port: u16) -> Result<()> {
        let pages = self.lab.folder("www")?;
        for page in 0..PAGES {
            write(
                &pages.join(page.to_string()),
                &"x".repeat(100 << (page % 9)),
            )?;
        }
        let file = self.lab.path("nginx.conf");
        write(&file, &nginx(self.lab.path("").as_path(), &pages, port))?;
        let mut nginx = Command::new("nginx");
        nginx.arg("-c").arg(&file).arg("-e").arg("stderr");
        self.run(group, &mut nginx, port)
    }

    /// Starts a process and waits until it listens.
    fn run(&mut self, group: &str, command: &mut Command, port: u16) -> Result<()> {
        let name = command.get_program().display().to_string();
        let log = self.lab.path(&format!("{name}.log"));
        let log = File::create(&log).with_context(|| log.display().to_string())?;
        command
            .env("PATH", system_path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        pin(command, Processor::Highest)?;
        self.processes.push(self.lab.spawn(group, command)?);
        let listens = wait_for_listener(port, START_LIMIT, || self.check());
        listens.context(name)
    }

    /// Says so when a process ended by itself.
    pub(super) fn check(&mut self) -> Result<()> {
        for process in &mut self.processes {
            if let Some(status) = process.try_wait()? {
                let log = self.lab.path("");
                bail!(
                    "{} ended: {status}; logs in {}",
                    self.server.name(),
                    log.display()
                );
            }
        }
        Ok(())
    }

    /// The server's processes.
    pub(super) fn pids(&self) -> Result<Vec<u32>> {
        processes_in(&self.lab.cgroup(&self.server.group()))
    }
}

impl Drop for Application<'_> {
    fn drop(&mut self) {
        for group in [&self.server.group(), BACKEND] {
            if let Err(error) = self.lab.kill(group) {
                eprintln!("{group}: {error:#}");
            }
        }
        for process in &mut self.processes {
            // It was killed above; a failure leaves it to the lab.
            let _ = process.kill();
            let _ = process.wait();
        }
        // The next application makes it anew.
        let _ = fs::remove_dir_all(self.lab.path("www"));
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| path.display().to_string())
}

fn nginx(folder: &Path, pages: &Path, port: u16) -> String {
    let (folder, pages) = (folder.display(), pages.display());
    format!(
        "daemon off; user root; worker_processes 1; pid {folder}/nginx.pid;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n\
           access_log off; sendfile on;\n\
           client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n\
           fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;\n\
           scgi_temp_path {folder}/scgi;\n\
           server {{ listen 127.0.0.1:{port}; root {pages}; }}\n\
         }}\n"
    )
}

fn haproxy(port: u16, backend: u16) -> String {
    format!(
        "global\n  maxconn 1024\n  nbthread 1\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
         frontend front\n  bind 127.0.0.1:{port}\n  default_backend nginx\n\
         backend nginx\n  server one 127.0.0.1:{backend}\n"
    )
}

const NODE: &str = "\
const http = require('http');
http.createServer((request, response) => {
  const page = Number(request.url.slice(1)) || 0;
  const items = Array.from({ length: 1 + page * 8 }, (_, id) => ({ id, name: `item ${id}` }));
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify(items));
}).listen(Number(process.argv[2]), '127.0.0.1');
";
