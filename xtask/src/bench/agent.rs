//! The sidecar's CPU and resident memory while it watches the demo's shop under load.

use std::time::Duration;

use anyhow::Result;

use super::figure::{Figure, Goal};
use crate::demo;
use crate::workspace::Workspace;

/// How long the watching sidecar is measured.
const SPAN: Duration = Duration::from_secs(60);

pub(super) fn run(workspace: &Workspace) -> Result<Vec<Figure>> {
    let usage = demo::under_load(workspace, SPAN)?;
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    Ok(vec![
        Figure::new("agent.cpu", usage.core * 100.0, "% of a core").goal(Goal::AtMost(1.0)),
        Figure::new("agent.memory", mebibytes(usage.resident), "MiB").goal(Goal::AtMost(64.0)),
        Figure::new("agent.memory.peak", mebibytes(usage.resident_peak), "MiB"),
    ])
}
