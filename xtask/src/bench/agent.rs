//! The sidecar's CPU and resident memory while it watches the demo's shop under load.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::unistd::{SysconfVar, sysconf};

use super::figure::{Figure, Goal};
use crate::workspace::Workspace;

/// How long the watching sidecar is measured.
const SPAN: Duration = Duration::from_secs(30);

pub(super) fn run(workspace: &Workspace) -> Result<Vec<Figure>> {
    let usage = crate::demo::under_load(workspace, |sidecar| measure(sidecar, SPAN))?;
    Ok(figures(&usage))
}

/// What one process used over a span.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Usage {
    /// Share of one processor, 1 = all of it.
    processor: f64,
    /// Resident memory at the end, and the highest ever, in bytes.
    resident: f64,
    resident_peak: f64,
}

fn figures(usage: &Usage) -> Vec<Figure> {
    const MIB: f64 = 1_048_576.0;
    vec![
        Figure::new("agent.cpu", usage.processor * 100.0, "% of a core").goal(Goal::AtMost(1.0)),
        Figure::new("agent.memory", usage.resident / MIB, "MiB").goal(Goal::AtMost(64.0)),
        Figure::new("agent.memory.peak", usage.resident_peak / MIB, "MiB"),
    ]
}

fn measure(pid: u32, span: Duration) -> Result<Usage> {
    let start = Instant::now();
    let before = processor_seconds(pid)?;
    std::thread::sleep(span);
    let used = processor_seconds(pid)? - before;
    let status = read(pid, "status")?;
    Ok(Usage {
        processor: used / start.elapsed().as_secs_f64(),
        resident: kibibytes(&status, "VmRSS:")? * 1024.0,
        resident_peak: kibibytes(&status, "VmHWM:")? * 1024.0,
    })
}

/// User and system time of all threads, those that ended included.
fn processor_seconds(pid: u32) -> Result<f64> {
    let ticks = ticks(&read(pid, "stat")?).with_context(|| format!("/proc/{pid}/stat is odd"))?;
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("the clock tick is unknown")?;
    Ok(ticks as f64 / per_second as f64)
}

/// Fields 14 and 15 of proc(5)'s `stat`; the command before them may hold spaces and brackets.
fn ticks(stat: &str) -> Option<u64> {
    let (_, after_command) = stat.rsplit_once(')')?;
    let mut fields = after_command.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn kibibytes(status: &str, field: &str) -> Result<f64> {
    status
        .lines()
        .find_map(|line| {
            line.strip_prefix(field)?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .with_context(|| format!("the process's status has no {field}"))
}

fn read(pid: u32, file: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{file}");
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_an_odd_command() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 5 0 0";
        assert_eq!(ticks(stat), Some(300));
    }

    #[test]
    fn this_process_has_memory() {
        let usage = measure(std::process::id(), Duration::from_millis(1)).unwrap();
        assert!(usage.resident > 100_000.0 && usage.resident_peak >= usage.resident);
    }
}
