//! Stethos beside a pod: `stethos run`, what it prints, what it costs.

use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::report::Line;
use super::{Inside, Lab, send_signal, wait_for_end};

/// Lines of its log shown when Stethos fails.
const LAST_WORDS: usize = 12;
const STOP_LIMIT: Duration = Duration::from_secs(10);

pub(crate) struct Sidecar {
    /// What it says on standard output; disconnected once it ended.
    pub(crate) lines: Receiver<Heard>,
    process: Child,
    cgroup: PathBuf,
    log: PathBuf,
    measured_from: Instant,
    cpu_before: Duration,
}

/// Points a process's OpenTelemetry at the collector, or away from all.
pub(crate) fn collector<'c>(command: &'c mut Command, endpoint: Option<&str>) -> &'c mut Command {
    match endpoint {
        Some(endpoint) => command
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
            .env("OTEL_BSP_SCHEDULE_DELAY", "1000"),
        None => command.env_remove("OTEL_EXPORTER_OTLP_ENDPOINT"),
    }
}

/// Variables of the build are not `stethos`'s, which refuses those that it does not know.
pub(crate) fn without_build_variables(command: &mut Command) {
    for variable in ["STETHOS_ARTIFACTS", "STETHOS_TARGET_DIR"] {
        command.env_remove(variable);
    }
}

/// A line that it printed.
pub(crate) struct Heard {
    pub(crate) at: SystemTime,
    pub(crate) line: Line,
    /// All of it, as JSON.
    pub(crate) text: String,
}

impl Heard {
    fn now(line: Line, text: String) -> Self {
        Self {
            at: SystemTime::now(),
            line,
            text,
        }
    }
}

/// What a sidecar is started with.
#[derive(Clone, Copy)]
pub(crate) struct SidecarOptions<'a> {
    pub(crate) binary: &'a Path,
    /// The cgroup whose children are the containers.
    pub(crate) pod: &'a Path,
    /// Folder of learned models.
    pub(crate) state: &'a Path,
    /// Folder for its log and a copy of what it prints.
    pub(crate) logs: &'a Path,
    /// A collector; none, and nothing is sent.
    pub(crate) endpoint: Option<&'a str>,
    /// Where it records what it sees.
    pub(crate) recording: Option<&'a Path>,
    /// Over the environment of this process.
    pub(crate) settings: &'a [(&'a str, &'a str)],
    pub(crate) inside: &'a Inside,
}

/// What the sidecar used over a span of time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// Share of one core, 1 = all of it; its children count.
    pub(crate) core: f64,
    /// Resident memory of the sidecar itself at the end, in bytes.
    pub(crate) resident: u64,
    /// The most that it ever had resident, in bytes.
    pub(crate) resident_peak: u64,
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "stethos {:.1} % of a core while watching, {} MiB resident (peak {} MiB)",
            100.0 * self.core,
            self.resident >> 20,
            self.resident_peak >> 20
        )
    }
}

impl Sidecar {
    pub(crate) fn start(lab: &Lab, options: SidecarOptions) -> Result<Self> {
        let SidecarOptions { logs, .. } = options;
        let log = logs.join("stethos.log");
        let said = logs.join("stethos.jsonl");
        let mut command = Command::new(options.binary);
        command
            .arg("run")
            .arg(format!("--target=cgroup={}", options.pod.display()))
            .arg("--json")
            .arg("--state-dir")
            .arg(options.state)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).with_context(|| log.display().to_string())?);
        if let Some(recording) = options.recording {
            command.arg("--record").arg(recording);
        }
        without_build_variables(&mut command);
        command.envs(options.settings.iter().copied());
        match options.endpoint {
            Some(endpoint) => collector(&mut command, Some(endpoint)),
            None => command.env("OTEL_SDK_DISABLED", "true"),
        };
        let mut process = lab.spawn_inside("sidecar", options.inside, &mut command)?;
        let stdout = process
            .stdout
            .take()
            .context("stethos has no standard output")?;
        let copy = File::create(&said).with_context(|| said.display().to_string())?;
        let (sender, lines) = mpsc::channel();
        thread::Builder::new()
            .name("stethos-lines".into())
            .spawn(move || read_lines(BufReader::new(stdout), copy, &sender))?;
        Ok(Self {
            lines,
            process,
            cgroup: lab.cgroup("sidecar"),
            log,
            measured_from: Instant::now(),
            cpu_before: Duration::ZERO,
        })
    }

    /// Starts the span of time that `usage` is about.
    pub(crate) fn measure_from_now(&mut self) -> Result<()> {
        self.cpu_before = self.cpu()?;
        self.measured_from = Instant::now();
        Ok(())
    }

    /// What it used since `measure_from_now`.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let cpu = self.cpu()?.saturating_sub(self.cpu_before);
        let status = format!("/proc/{}/status", self.process.id());
        let status = fs::read_to_string(&status).context(status)?;
        let bytes = |key| Some(kib(&status, key)? * 1024);
        Ok(Usage {
            core: cpu.as_secs_f64() / self.measured_from.elapsed().as_secs_f64(),
            resident: bytes("VmRSS").context("no VmRSS")?,
            resident_peak: bytes("VmHWM").context("no VmHWM")?,
        })
    }

    /// Of the whole cgroup, so that training counts.
    fn cpu(&self) -> Result<Duration> {
        let path = self.cgroup.join("cpu.stat");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let usage = text
            .lines()
            .find_map(|line| line.strip_prefix("usage_usec "));
        let micros = usage.and_then(|usage| usage.parse().ok());
        Ok(Duration::from_micros(micros.with_context(|| {
            format!("{}: no usage", path.display())
        })?))
    }

    /// Asks it to end, and waits until it has flushed and ended.
    pub(crate) fn stop(&mut self) -> Result<()> {
        send_signal(&self.process, Signal::SIGTERM)?;
        wait_for_end(&mut self.process, STOP_LIMIT).context("stethos after SIGTERM")?;
        Ok(())
    }

    /// The end of its log.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(LAST_WORDS)..];
        format!("stethos said last:\n{}", last.join("\n"))
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // One that ended already is only waited for.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Keeps a copy of every line, and hands over those that are known.
fn read_lines(lines: impl BufRead, mut copy: File, sender: &Sender<Heard>) {
    for line in lines.lines().map_while(Result::ok) {
        // The copy is for people; the run goes on without it.
        let _ = writeln!(copy, "{line}");
        if let Some(known) = Line::parse(&line)
            && sender.send(Heard::now(known, line)).is_err()
        {
            return;
        }
    }
}

fn kib(status: &str, key: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_memory_from_a_status() {
        let status = "Name:\tstethos\nVmHWM:\t   51200 kB\nVmRSS:\t   40960 kB\n";
        assert_eq!(kib(status, "VmRSS"), Some(40960));
        assert_eq!(kib(status, "VmSwap"), None);
    }
}
