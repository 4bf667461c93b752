//! Windows a second through the GRU in the guest, uncached.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::figure::Figure;
use super::processors::{Processor, pin};
use super::rounds::{Spread, interleave};
use crate::workspace::Workspace;

/// Scores random windows and prints one line, `windows_per_second VALUE`:
/// `bench-plugin guest FOLDER` through the embedded component, `bench-plugin native FOLDER` through the
/// same code compiled for this machine.
const PROGRAM: &str = "bench-plugin";
const VARIANTS: [&str; 2] = ["guest", "native"];

pub(super) fn run(workspace: &Workspace, rounds: u32) -> Result<Vec<Figure>> {
    let folder = workspace.target.join("scoring");
    let values = interleave(&VARIANTS, rounds, |variant| {
        measure(workspace, variant, &folder)
    })?;
    let mut figures = Vec::new();
    for (variant, values) in VARIANTS.iter().zip(&values) {
        let spread = Spread::of(values);
        let name = format!("plugin.gru.{variant}");
        figures.extend(Figure::new(name, spread.median, "windows/s").with_spread(&spread));
    }
    Ok(figures)
}

/// Windows a second.
pub(super) fn measure(workspace: &Workspace, variant: &str, folder: &Path) -> Result<f64> {
    let text = run_part(workspace, variant, folder)?;
    value(&text, "windows_per_second")
        .with_context(|| format!("{PROGRAM} {variant} printed no windows_per_second"))
}

/// What a part of the program prints.
pub(super) fn run_part(workspace: &Workspace, part: &str, folder: &Path) -> Result<String> {
    let mut command = Command::new(workspace.binary(PROGRAM));
    // As a sidecar trains.
    command.env("RAYON_NUM_THREADS", "1").arg(part).arg(folder);
    pin(&mut command, Processor::Highest)?;
    output(PROGRAM, &mut command)
}

/// Standard output of a program that ends well.
pub(super) fn output(name: &str, command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        bail!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The number on the line that begins with `name`.
pub(super) fn value(text: &str, name: &str) -> Option<f64> {
    let line = |line: &str| {
        line.strip_prefix(name)?
            .strip_prefix(' ')?
            .trim()
            .parse()
            .ok()
    };
    text.lines().find_map(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_its_whole_name() {
        let text = "rate.alone 1.5\nrate 2.5e3\n";
        assert_eq!(value(text, "rate"), Some(2500.0));
        assert_eq!(value(text, "rate.alone"), Some(1.5));
        assert_eq!(value(text, "rate.batches"), None);
    }
}
