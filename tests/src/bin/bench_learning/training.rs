//! `stethos train` as a sidecar runs it, and what it took.

use std::{
    io::{Error, Read as _},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use stethos_bundle::Bundle;
use stethos_tests::programs::binary;

/// What a training took.
pub(crate) struct Cost {
    cpu_seconds: f64,
    peak_bytes: u64,
    bundle: [(&'static str, f64, &'static str); 4],
}

impl Cost {
    pub(crate) fn figures(&self) -> Vec<(&'static str, f64, &'static str)> {
        let mut figures = vec![
            ("cpu", self.cpu_seconds, "s"),
            ("peak", self.peak_bytes as f64 / f64::from(1 << 20), "MiB"),
        ];
        figures.extend(self.bundle);
        figures
    }
}

/// `arguments`: more than the recording.
pub(crate) fn train(recording: &Path, arguments: &[&str]) -> anyhow::Result<(Bundle, Cost)> {
    let mut child = Command::new(binary("stethos"))
        .arg("train")
        .arg(recording)
        .args(arguments)
        .args(["--output", "-"])
        .env("RAYON_NUM_THREADS", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut bytes = Vec::new();
    let output = child.stdout.take().context("no output")?;
    let pid = libc::pid_t::try_from(child.id())?;
    let peak = std::thread::spawn(move || peak(pid));
    { output }.read_to_end(&mut bytes)?;
    let mut status = 0;
    // SAFETY: zeros are a valid value of it.
    let mut used: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: a child of this process that nobody else waits for, and room for the answers.
    let waited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut used) };
    ensure!(waited == pid, "{}", Error::last_os_error());
    ensure!(status == 0, "stethos train failed: {status}");
    let peak_bytes = peak.join().unwrap_or(0);
    let bundle = Bundle::read(&bytes, "the trained bundle")?;
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    let card = &bundle.card;
    let cost = Cost {
        cpu_seconds: seconds(used.ru_utime) + seconds(used.ru_stime),
        peak_bytes,
        bundle: [
            ("calls", card.calls as f64, ""),
            ("distinct_windows", card.distinct_windows as f64, ""),
            ("patterns", f64::from(card.patterns), ""),
            ("vocabulary", f64::from(card.vocabulary), ""),
        ],
    };
    Ok((bundle, cost))
}

/// Most bytes that a process has resident until it ends. What `wait4` tells begins before its exec, with
/// the memory of its parent.
fn peak(pid: libc::pid_t) -> u64 {
    let mut peak = 0;
    while let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) {
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        // One that has ended has no memory.
        let Some(kib) = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
        else {
            break;
        };
        peak = kib << 10;
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    peak
}
