//! Limits on the descriptors of other processes.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// The soft limit on open files of a process.
pub(crate) fn descriptor_limit(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/limits");
    let limits = fs::read_to_string(&path).context(path.clone())?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    soft.and_then(|soft| soft.parse().ok())
        .with_context(|| format!("{path}: no limit on open files"))
}

/// Sets that limit from outside, as the user that the process runs as: root needs a capability
/// for it that a container may not have.
pub(crate) fn set_descriptor_limit(pid: u32, soft: u64) -> Result<()> {
    let status = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&status).with_context(|| status)?;
    let mut command = Command::new("setpriv");
    for (field, option) in [("Uid", "--reuid"), ("Gid", "--regid")] {
        let id = owner(&status, field).with_context(|| format!("process {pid} has no {field}"))?;
        command.arg(format!("{option}={id}"));
    }
    let status = command
        .args(["--clear-groups", "prlimit"])
        .args([format!("--pid={pid}"), format!("--nofile={soft}:")])
        .status()
        .context("setpriv, prlimit (of util-linux)")?;
    if !status.success() {
        bail!("prlimit of process {pid} failed: {status}");
    }
    Ok(())
}

/// Real id of a process's user (`Uid`) or group (`Gid`), from `/proc/PID/status`.
fn owner<'a>(status: &'a str, field: &str) -> Option<&'a str> {
    let lines = status.lines();
    let ids = lines.filter_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    ids.flat_map(str::split_whitespace).next()
}

/// The lowest descriptor number that a process has free.
pub(crate) fn lowest_free_descriptor(pid: u32) -> Result<u64> {
    let path = PathBuf::from(format!("/proc/{pid}/fd"));
    let taken = |number: &u64| path.join(number.to_string()).symlink_metadata().is_ok();
    ensure!(path.exists(), "process {pid} is gone");
    Ok((0..).take_while(taken).count() as u64)
}

#[cfg(test)]
mod tests {
    use nix::unistd::getpid;

    use super::*;

    #[test]
    fn owners_are_read_from_a_status_file() {
        let status = "Name:\tnginx\nUid:\t33\t34\t35\t36\nGid:\t7\t8\t9\t9\n";
        assert_eq!(owner(status, "Uid"), Some("33"));
        assert_eq!(owner(status, "Gid"), Some("7"));
        assert_eq!(owner("Uid:\n", "Uid"), None);
    }

    #[test]
    fn reads_descriptors_of_a_process() {
        let pid = getpid().as_raw().cast_unsigned();
        assert!(lowest_free_descriptor(pid).unwrap() >= 3);
        assert!(descriptor_limit(pid).unwrap() > 3);
    }
}
