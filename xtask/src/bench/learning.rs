//! How well what is learned of real servers tells faults from normal time.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::figure::{Figure, Goal};
use crate::corpus::{self, Wanted};
use crate::workspace::Workspace;

const PROGRAM: &str = "bench-learning";
const PARTS: [&str; 2] = ["sequences", "profiles"];

/// What is measured, on what.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct LearningOptions {
    /// Folder of the recordings that `learning` makes and measures on; what is there is not made
    /// again [default: `corpus` in the build folder]
    #[arg(long, value_name = "FOLDER")]
    corpus: Option<PathBuf>,
    /// Only these products of the corpus.
    #[arg(long, value_delimiter = ',', value_name = "PRODUCTS")]
    product: Vec<String>,
    /// Record again what is there.
    #[arg(long)]
    anew: bool,
    /// Record, and measure nothing.
    #[arg(long)]
    record_only: bool,
}

pub(super) fn run(workspace: &Workspace, options: &LearningOptions) -> Result<Vec<Figure>> {
    let folder = options.corpus.clone();
    let folder = folder.unwrap_or_else(|| workspace.target.join("corpus"));
    let wanted = Wanted {
        products: options.product.clone(),
        anew: options.anew,
    };
    corpus::record(workspace, &folder, &wanted)?;
    let mut figures = Vec::new();
    if options.record_only {
        return Ok(figures);
    }
    for part in PARTS {
        let output = Command::new(workspace.binary(PROGRAM))
            .arg(part)
            .arg(&folder)
            .env("RAYON_NUM_THREADS", "1")
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("cannot start {PROGRAM}"))?;
        ensure!(output.status.success(), "{PROGRAM} {part} failed");
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            figures.push(figure(line).with_context(|| format!("{PROGRAM} said {line:?}"))?);
        }
    }
    Ok(figures)
}

/// Units that figures may have.
const UNITS: [&str; 5] = ["", "s", "MiB", "of intervals", "AUC"];

fn figure(line: &str) -> Option<Figure> {
    let line: Value = serde_json::from_str(line).ok()?;
    let name = line["name"].as_str()?;
    let unit = UNITS.iter().find(|unit| line["unit"] == **unit)?;
    let figure = Figure::new(name, line["value"].as_f64()?, unit);
    Some(match goal(name) {
        Some(goal) => figure.goal(goal),
        None => figure,
    })
}

fn goal(name: &str) -> Option<Goal> {
    match name.rsplit('.').next()? {
        "cpu" => Some(Goal::AtMost(60.0)),
        "peak" => Some(Goal::AtMost(256.0)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_says_becomes_figures_with_goals() {
        let text = |line: &str| figure(line).map(|figure| figure.to_string());
        let line = r#"{"name":"learning.redis.training.cpu","value":61.0,"unit":"s"}"#;
        let cpu = text(line).unwrap();
        assert!(cpu.contains("(goal ≤ 60.0 s, not met)"), "{cpu}");
        assert!(text(r#"{"name":"x.auc","value":0.5,"unit":""}"#).is_some());
        assert_eq!(text(r#"{"name":"x.auc","unit":""}"#), None);
    }
}
