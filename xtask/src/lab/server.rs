//! What servers of a lab need, whichever they are.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

const STEP: Duration = Duration::from_millis(20);

/// Servers lie in `sbin`, which is not on every user's path.
pub(crate) fn system_path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/usr/local/sbin")
}

/// Whether a program of this name, or at this path, is there.
pub(crate) fn is_installed(program: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", "command -v \"$0\"", program])
        .env("PATH", system_path())
        .stdout(Stdio::null())
        .status();
    found.is_ok_and(|status| status.success())
}

/// Waits until something listens on a port of loopback; `check` fails when nothing ever will.
pub(crate) fn wait_for_listener(
    port: u16,
    limit: Duration,
    mut check: impl FnMut() -> Result<()>,
) -> Result<()> {
    let end = Instant::now() + limit;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        check()?;
        ensure!(Instant::now() < end, "nothing listens on port {port}");
        thread::sleep(STEP);
    }
    Ok(())
}

/// Waits until a process ends.
pub(crate) fn wait_for_end(process: &mut Child, limit: Duration) -> Result<ExitStatus> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = process.try_wait()? {
            return Ok(status);
        }
        ensure!(Instant::now() < end, "it does not end within {limit:?}");
        thread::sleep(STEP);
    }
}

/// The processes of a cgroup.
pub(crate) fn processes_in(cgroup: &Path) -> Result<Vec<u32>> {
    let procs = cgroup.join("cgroup.procs");
    let text = fs::read_to_string(&procs).with_context(|| procs.display().to_string())?;
    Ok(text.lines().filter_map(|pid| pid.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn programs_are_found_by_name_and_by_path() {
        assert!(is_installed("sh") && is_installed("/bin/sh"));
        assert!(!is_installed("no-such-program") && !is_installed("/bin/no-such-program"));
    }

    #[test]
    fn a_listener_is_waited_for_until_it_is_hopeless() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        wait_for_listener(port, Duration::ZERO, || Ok(())).unwrap();
        drop(listener);
        let failed = wait_for_listener(port, Duration::from_secs(60), || {
            anyhow::bail!("the server ended")
        });
        assert!(failed.unwrap_err().to_string().contains("the server ended"));
        let late = wait_for_listener(port, Duration::ZERO, || Ok(()));
        assert!(late.unwrap_err().to_string().contains("nothing listens"));
    }
}
