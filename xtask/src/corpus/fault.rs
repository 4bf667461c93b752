//! What is done to servers. All of it has real causes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::start::Running;
use crate::lab::{Lab, fill_disk, lowest_free_descriptor, set_descriptor_limit, system_path};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A page is moved away.
    FileMissing,
    /// A page may not be read any more.
    PermissionDenied,
    /// No process of the server may open another descriptor.
    Descriptors,
    /// The disk with its data and logs is full.
    DiskFull,
    /// The server behind a proxy is stopped.
    DependencyStopped,
    /// It is configured to do the same in another way; nothing fails.
    Reconfigured,
    /// A program that was never there runs beside it, in its container.
    Program,
}

impl Fault {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::FileMissing => "file-missing",
            Self::PermissionDenied => "permission-denied",
            Self::Descriptors => "descriptors",
            Self::DiskFull => "disk-full",
            Self::DependencyStopped => "dependency-stopped",
            Self::Reconfigured => "reconfigured",
            Self::Program => "program",
        }
    }

    pub(crate) fn inject(self, lab: &Lab, running: &mut Running) -> Result<()> {
        match self {
            Self::FileMissing => {
                let page = running.folder.join("page.html");
                fs::rename(&page, running.folder.join("gone.html"))
                    .with_context(|| page.display().to_string())
            }
            Self::PermissionDenied => {
                let page = running.folder.join("page.html");
                fs::set_permissions(&page, fs::Permissions::from_mode(0o0))
                    .with_context(|| page.display().to_string())
            }
            Self::Descriptors => {
                for pid in running.pids()? {
                    // A process may end meanwhile.
                    if let Ok(limit) = lowest_free_descriptor(pid) {
                        set_descriptor_limit(pid, limit)?;
                    }
                }
                Ok(())
            }
            Self::DiskFull => fill_disk(&running.data.join("filler")),
            Self::DependencyStopped => lab.kill(super::start::BEHIND),
            Self::Reconfigured => reconfigure(running),
            Self::Program => program(lab, running),
        }
    }
}

/// Shells that look around, in the server's own cgroup.
fn program(lab: &Lab, running: &mut Running) -> Result<()> {
    const LOOK: &str = "while :; do id; uname -a; cat /etc/passwd /proc/self/status; ls -l /etc; \
                        find /etc -name '*.conf' | sort | head; sleep 0.5; done";
    let mut command = Command::new("sh");
    command
        .args(["-c", LOOK])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let started = lab.spawn(&running.group, &mut command)?;
    running.keep(started);
    Ok(())
}

fn reconfigure(running: &Running) -> Result<()> {
    let port = running.port.to_string();
    match running.product {
        "redis" => ask(
            "redis-cli",
            &["-p", &port, "config", "set", "appendfsync", "always"],
        ),
        "nginx" => {
            let config = running.folder.join("nginx.conf");
            replace(
                &config,
                "sendfile on;",
                "sendfile off; keepalive_timeout 0;",
            )?;
            signal(running, "HUP")
        }
        "apache" => {
            let config = running.folder.join("apache.conf");
            replace(
                &config,
                "KeepAlive On",
                "KeepAlive Off\nEnableMMAP Off\nEnableSendfile Off",
            )?;
            signal(running, "USR1")
        }
        "postgres" => {
            for setting in ["log_statement TO 'all'", "wal_sync_method TO 'open_sync'"] {
                let statement = format!("ALTER SYSTEM SET {setting}");
                psql(&port, &statement)?;
            }
            psql(&port, "SELECT pg_reload_conf()")
        }
        other => bail!("{other} cannot be reconfigured"),
    }
}

pub(super) fn psql(port: &str, statement: &str) -> Result<()> {
    let place = ["-h", "127.0.0.1", "-p", port, "-U", "postgres"];
    ask("psql", &[&place[..], &["-q", "-c", statement]].concat())
}

pub(super) fn ask(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .env("PATH", system_path())
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    ensure!(
        output.status.success(),
        "{program} {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

fn replace(path: &std::path::Path, from: &str, to: &str) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    ensure!(text.contains(from), "{}: no {from}", path.display());
    fs::write(path, text.replace(from, to)).with_context(|| path.display().to_string())
}

fn signal(running: &Running, name: &str) -> Result<()> {
    ask(
        "kill",
        &[&format!("-{name}"), &running.main_pid()?.to_string()],
    )
}
