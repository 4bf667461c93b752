//! Windows a second through the GRU in the guest, uncached.

use std::process::Command;

use anyhow::{Context, Result, bail};

use super::figure::Figure;
use super::rounds::{Spread, interleave};
use crate::workspace::Workspace;

/// Scores random windows and prints one line, `windows_per_second VALUE`:
/// `bench-plugin guest` through the embedded component, `bench-plugin native` through the same
/// code compiled for this machine.
const PROGRAM: &str = "bench-plugin";
const VARIANTS: [&str; 2] = ["guest", "native"];

pub(super) fn run(workspace: &Workspace, rounds: u32) -> Result<Vec<Figure>> {
    let values = interleave(&VARIANTS, rounds, |variant| measure(workspace, variant))?;
    let mut figures = Vec::new();
    for (variant, values) in VARIANTS.iter().zip(&values) {
        let spread = Spread::of(values);
        let name = format!("plugin.gru.{variant}");
        figures.extend(Figure::new(name, spread.median, "windows/s").with_spread(&spread));
    }
    Ok(figures)
}

fn measure(workspace: &Workspace, variant: &str) -> Result<f64> {
    let program = workspace.binary(PROGRAM);
    let output = Command::new(&program)
        .arg(variant)
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!(
            "{PROGRAM} {variant}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    text.lines()
        .find_map(|line| {
            line.strip_prefix("windows_per_second ")?
                .trim()
                .parse()
                .ok()
        })
        .with_context(|| format!("{PROGRAM} {variant} printed no windows_per_second"))
}
