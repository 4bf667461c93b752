//! A collector that is away for a while: what arrives afterwards, what the sidecar takes meanwhile, and what
//! the application's clients feel of it.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::figure::{Figure, Goal};
use crate::workspace::Workspace;

/// `bench-outage MINUTES` gives one JSON object.
const PROGRAM: &str = "bench-outage";

pub(super) fn run(workspace: &Workspace, collector: &Path, minutes: f64) -> Result<Vec<Figure>> {
    let program = workspace.target.join("release").join(PROGRAM);
    let output = Command::new(&program)
        .arg(minutes.to_string())
        .env("STETHOS_ROTEL", collector)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| program.display().to_string())?;
    ensure!(
        output.status.success(),
        "{PROGRAM} failed: {}",
        output.status
    );
    let told: Value = serde_json::from_slice(&output.stdout).context("no JSON")?;
    let number = |path: &str| told.pointer(path).and_then(Value::as_f64);
    let figure = |name: &str, path: &str, unit| -> Result<Figure> {
        let value = number(path).with_context(|| format!("no {path}"))?;
        Ok(Figure::new(format!("outage.{name}"), value, unit))
    };
    let mut figures = vec![
        figure("minutes", "/minutes", "min")?,
        figure("faults", "/faults", "faults")?,
        figure("diagnoses.told", "/told", "records")?,
        figure("diagnoses.missing", "/missing", "records")?.goal(Goal::AtMost(0.0)),
        figure("diagnoses.twice", "/twice", "records")?,
        figure("spans.arrived", "/spans", "spans")?,
        figure("waiting", "/waiting_bytes", "bytes")?,
        figure("waiting.left", "/left_bytes", "bytes")?.goal(Goal::AtMost(0.0)),
    ];
    let peaks = told["resident_peak_kib"].as_array().into_iter().flatten();
    let peak = peaks.filter_map(Value::as_f64).fold(0.0, f64::max);
    figures.push(Figure::new("outage.resident.peak", peak / 1024.0, "MiB"));
    for time in ["before", "during", "after"] {
        for quantile in ["p50", "p95"] {
            let path = format!("/latency_us/{time}/{quantile}");
            figures.push(figure(&format!("latency.{time}.{quantile}"), &path, "µs")?);
        }
    }
    Ok(figures)
}
