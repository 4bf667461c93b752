//! `stethos run` beside a server, and what it says about how it captures.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::application::{POD, Server};
use crate::lab::{self, Lab};
use crate::workspace::Workspace;

/// Learning, training and the first reduction end within this.
pub(super) const LEARNING_LIMIT: Duration = Duration::from_secs(600);
/// A start from learned state reduces within this.
pub(super) const WARM_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// Lines of its log shown when it fails.
const LAST_WORDS: usize = 8;
/// The kernel tells processor time in hundredths of a second (`USER_HZ`).
const TICKS: f64 = 100.0;
const CONFIG: &str = "capture:\n  node_socket: 'off'\nexport:\n  otlp: false\n";

/// A line of its standard output about one container.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Said {
    /// It has learned the container.
    Watching,
    Capturing(Totals),
}

/// What became of a container's calls since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Totals {
    pub(super) seen: u64,
    pub(super) delivered: u64,
    pub(super) counted: u64,
    pub(super) held: u64,
    pub(super) lost: u64,
    /// Familiar calls are only counted now.
    pub(super) reduced: bool,
}

impl Said {
    /// Reads a line about `container`; nothing when it is about something else.
    fn parse(line: &str, container: &str) -> Option<Self> {
        let line: Value = serde_json::from_str(line).ok()?;
        if line["container"] != container {
            return None;
        }
        let number = |key: &str| line[key].as_u64();
        match line["stethos.phase"].as_str()? {
            "watching" => Some(Self::Watching),
            "capturing" => Some(Self::Capturing(Totals {
                seen: number("seen")?,
                delivered: number("delivered")?,
                counted: number("counted")?,
                held: number("held")?,
                lost: number("lost")?,
                reduced: line["reduced"].as_bool()?,
            })),
            _ => None,
        }
    }
}

/// A running sidecar, which watches the pod from a cgroup beside it.
pub(super) struct Watcher {
    process: Child,
    lines: Receiver<Said>,
    log: PathBuf,
}

impl Watcher {
    /// Starts it on what it learned in `state`, if anything.
    pub(super) fn start(
        workspace: &Workspace,
        lab: &Lab,
        server: Server,
        state: &Path,
    ) -> Result<Self> {
        let config = lab.path("stethos.yaml");
        fs::write(&config, CONFIG).with_context(|| config.display().to_string())?;
        let log = lab.path("stethos.log");
        let mut command = workspace.stethos();
        command
            .args(["run", "--json", "--target"])
            .arg(format!("cgroup={}", lab.cgroup(POD).display()))
            .arg("--state-dir")
            .arg(state)
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).with_context(|| log.display().to_string())?);
        let mut process = lab.spawn("stethos", &mut command)?;
        let output = process.stdout.take().context("no standard output")?;
        let (sender, lines) = mpsc::channel();
        thread::Builder::new()
            .name("stethos-lines".to_owned())
            .spawn(move || {
                let lines = BufReader::new(output).lines().map_while(Result::ok);
                for said in lines.filter_map(|line| Said::parse(&line, server.name())) {
                    // Without a receiver, the rest is read and dropped: it must not block.
                    let _ = sender.send(said);
                }
            })?;
        Ok(Self {
            process,
            lines,
            log,
        })
    }

    /// The next line, before `end`.
    pub(super) fn next(&self, end: Instant) -> Result<Said> {
        let left = end.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left) {
            Ok(said) => Ok(said),
            Err(RecvTimeoutError::Disconnected) => bail!("stethos ended: {}", self.last_words()),
            Err(RecvTimeoutError::Timeout) => {
                bail!(
                    "stethos did not say in time what was waited for: {}",
                    self.last_words()
                )
            }
        }
    }

    /// The next totals, before `end`.
    pub(super) fn totals(&self, end: Instant) -> Result<Totals> {
        loop {
            if let Said::Capturing(totals) = self.next(end)? {
                return Ok(totals);
            }
        }
    }

    pub(super) fn wait_watching(&self, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        while self.next(end).context("it does not get to watching")? != Said::Watching {}
        Ok(())
    }

    /// Waits until it reduces what it ships.
    pub(super) fn wait_reduced(&self, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        while !self
            .totals(end)
            .context("it does not get to reducing")?
            .reduced
        {}
        Ok(())
    }

    /// Processor time that it used so far, in seconds; what it started is left out.
    pub(super) fn processor_time(&self) -> Result<f64> {
        let path = format!("/proc/{}/stat", self.process.id());
        let stat = fs::read_to_string(&path).context(path.clone())?;
        processor_seconds(&stat).with_context(|| format!("{path}: {stat:?}"))
    }

    /// Asks it to end, so that it keeps what it learned.
    pub(super) fn end(mut self) -> Result<()> {
        lab::send_signal(&self.process, Signal::SIGTERM)?;
        lab::wait_for_end(&mut self.process, STOP_LIMIT).context("stethos after SIGTERM")?;
        Ok(())
    }

    pub(super) fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LAST_WORDS)..].join("\n")
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // When it has ended, there is nothing left to kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `utime` and `stime` of a `/proc/PID/stat`. The name before them may hold anything.
fn processor_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |which: usize| fields.get(which)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_about_the_container_are_read_and_no_others() {
        let line = r#"{"stethos.phase":"capturing","container":"redis","seen":1000,"delivered":8,
                       "counted":990,"held":2,"lost":0,"reduced":true}"#;
        let totals = Totals {
            seen: 1000,
            delivered: 8,
            counted: 990,
            held: 2,
            lost: 0,
            reduced: true,
        };
        assert_eq!(Said::parse(line, "redis"), Some(Said::Capturing(totals)));
        assert_eq!(Said::parse(line, "nginx"), None);
        let watching = r#"{"stethos.phase":"watching","container":"redis","patterns":14}"#;
        assert_eq!(Said::parse(watching, "redis"), Some(Said::Watching));
        for other in [
            r#"{"stethos.phase":"learning","container":"redis"}"#,
            r#"{"stethos.phase":"capturing","container":"redis","seen":"many"}"#,
            r#"{"error.type":"crash","container":"redis"}"#,
            "no JSON",
        ] {
            assert_eq!(Said::parse(other, "redis"), None, "{other}");
        }
    }

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 9 8 7 6 150 50 900 900 20 0 9 0 5 0";
        assert_eq!(processor_seconds(stat), Some(2.0));
        assert_eq!(processor_seconds("42 (short) S 1"), None);
    }

    #[test]
    fn this_process_has_used_some() {
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        assert!(processor_seconds(&stat).is_some());
    }
}
