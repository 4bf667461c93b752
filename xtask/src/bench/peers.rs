//! Other tools that watch system calls.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use super::application::Application;
use crate::lab::{self, Lab};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    /// Counts calls by number at enter and at exit.
    Bpftrace,
    PerfTrace,
    StraceCount,
}

/// A tool has attached within this, or has said why it cannot.
const SETTLE: Duration = Duration::from_secs(2);
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Both need the kernel's list of tracepoints; where nobody mounted it, they see it alone.
const WITH_TRACEPOINTS: &str = "\
tracing=/sys/kernel/tracing
[ -e $tracing/events ] || mount -t tracefs tracefs $tracing || exit 1
exec \"$@\"
";
const COUNT_BY_ID: &str = "tracepoint:raw_syscalls:sys_enter { @entered[args->id] = count(); } \
                           tracepoint:raw_syscalls:sys_exit { @left[args->id] = count(); }";

/// A tool that watches a server.
pub(super) struct Peer {
    tool: Tool,
    process: Child,
    output: PathBuf,
}

impl Peer {
    pub(super) fn attach(lab: &Lab, tool: Tool, application: &Application) -> Result<Self> {
        let output = lab.path("peer.out");
        let file = File::create(&output).with_context(|| output.display().to_string())?;
        let pids: Vec<String> = application.pids()?.iter().map(u32::to_string).collect();
        let mut command = tool.command(&pids.join(","));
        command
            .env("PATH", lab::system_path())
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let process = lab.spawn("peer", &mut command)?;
        let mut peer = Self {
            tool,
            process,
            output,
        };
        let end = Instant::now() + SETTLE;
        while Instant::now() < end {
            peer.check()?;
            thread::sleep(Duration::from_millis(50));
        }
        Ok(peer)
    }

    /// Says so when it ended by itself.
    fn check(&mut self) -> Result<()> {
        if let Some(status) = self.process.try_wait()? {
            bail!("{status}: {}", self.said().trim());
        }
        Ok(())
    }

    /// Detaches it, and makes sure that it has seen calls.
    pub(super) fn detach(mut self) -> Result<()> {
        self.check()?;
        lab::send_signal(&self.process, Signal::SIGINT)?;
        lab::wait_for_end(&mut self.process, STOP_LIMIT).context("after SIGINT")?;
        let said = self.said();
        ensure!(
            self.tool.saw_calls(&said),
            "it saw no calls: {}",
            said.trim()
        );
        Ok(())
    }

    /// The end of what it printed.
    fn said(&self) -> String {
        const SHOWN: usize = 2_000;
        let bytes = fs::read(&self.output).unwrap_or_default();
        let last = &bytes[bytes.len().saturating_sub(SHOWN)..];
        String::from_utf8_lossy(last).into_owned()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // When it has ended, there is nothing left to kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Tool {
    fn command(self, pids: &str) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", WITH_TRACEPOINTS, "with-tracepoints"]);
        match self {
            Self::Bpftrace => command.args(["bpftrace", "-e", COUNT_BY_ID]),
            Self::PerfTrace => command.args(["perf", "trace", "-p", pids]),
            Self::StraceCount => {
                command = Command::new("strace");
                command.args(["-f", "-c", "-p", pids])
            }
        };
        command
    }

    /// Whether what it printed last shows that it saw calls.
    fn saw_calls(self, said: &str) -> bool {
        match self {
            Self::Bpftrace => said.contains("@left["),
            Self::PerfTrace => {
                let call = |line: &str| line.contains(" ms): ") && line.contains(" = ");
                said.lines().any(call)
            }
            Self::StraceCount => said.lines().any(|line| line.trim().ends_with(" total")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_that_printed_no_calls_saw_none() {
        let bpftrace = "Attaching 2 probes...\n\n@entered[1]: 5\n@left[1]: 5\n";
        assert!(Tool::Bpftrace.saw_calls(bpftrace));
        assert!(!Tool::Bpftrace.saw_calls("Attaching 2 probes...\n"));
        let perf = "  0.098 ( 0.022 ms): redis/1 epoll_wait(epfd: 5)    = 1\n";
        assert!(Tool::PerfTrace.saw_calls(perf));
        assert!(!Tool::PerfTrace.saw_calls("Error: No permissions\n"));
        let strace = "100.00    0.000100           1        90           total\n";
        assert!(Tool::StraceCount.saw_calls(strace));
        assert!(!Tool::StraceCount.saw_calls("strace: attach: Operation not permitted\n"));
    }
}
