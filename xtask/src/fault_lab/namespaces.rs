//! Namespaces of pods, held by processes that do nothing.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::lab::{Inside, Lab};

const START_LIMIT: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(20);

/// Whether something listens on a port in the network namespace of a process, by its table: a
/// connection would be seen by what is watched.
pub(super) fn listens_in(process: &Child, port: u16) -> bool {
    let tables = PathBuf::from(format!("/proc/{}/net", process.id()));
    ["tcp", "tcp6", "udp"].iter().any(|table| {
        let text = fs::read_to_string(tables.join(table)).unwrap_or_default();
        listens(&text, port)
    })
}

/// Reads `/proc/PID/net/tcp`, where state 0A is listening, or `udp`, where 07 is bound.
fn listens(table: &str, port: u16) -> bool {
    let wanted = format!(":{port:04X}");
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let local = fields.next().is_some_and(|local| local.ends_with(&wanted));
        local && matches!(fields.nth(1), Some("0A" | "07"))
    })
}

/// A process that does nothing in new namespaces, and those.
pub(super) fn namespaces(lab: &Lab, kinds: &[&str]) -> Result<(Child, Inside)> {
    let mut command = Command::new("unshare");
    command.args(kinds).args(["--", "sleep", "infinity"]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let pause = lab.spawn("pause", &mut command)?;
    let process = PathBuf::from(format!("/proc/{}", pause.id()));
    let end = Instant::now() + START_LIMIT;
    while fs::read_to_string(process.join("comm")).is_ok_and(|name| name.trim() != "sleep") {
        ensure!(Instant::now() < end, "unshare makes no namespaces");
        thread::sleep(STEP);
    }
    let open = |kind: &str| {
        let path = process.join("ns").join(kind);
        File::open(&path).with_context(|| path.display().to_string())
    };
    let inside = Inside {
        network: Some(open("net")?),
        mounts: Some(open("mnt")?),
        ..Inside::default()
    };
    Ok((pause, inside))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_read_from_a_table() {
        let table = "  sl  local_address rem_address   st\n\
                     0: 00000000:1F90 00000000:0000 0A 00000000:00000000\n\
                     1: 0200CB0A:1F91 0100CB0A:C350 01 00000000:00000000\n";
        assert!(listens(table, 8080));
        assert!(!listens(table, 8081) && !listens("", 8080));
    }
}
