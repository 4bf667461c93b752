//! How well what is learned tells faults from normal time: on real servers, and on data with labels
//! from elsewhere.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::figure::{Figure, Goal};
use crate::corpus::{self, Wanted};
use crate::workspace::Workspace;

/// `bench-learning PART DATA` prints one JSON object a figure: name, value, unit.
const PROGRAM: &str = "bench-learning";
/// Parts that read the corpus.
const PARTS: [&str; 3] = ["sequences", "profiles", "types"];

/// What is measured, on what.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct LearningOptions {
    /// Folder of the recordings that `learning` makes and measures on, and `scoring` reads; what is there
    /// is not made again [default: `corpus` in the build folder]
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
    /// Write what is learned of application types into the plugins' sources, and measure nothing.
    #[arg(long)]
    write_types: bool,
    /// Archive of the ChaosOrca experiments on nginx, for `learning`.
    #[arg(long, value_name = "FILE")]
    chaosorca: Option<PathBuf>,
}

impl LearningOptions {
    fn folder(&self, workspace: &Workspace) -> PathBuf {
        let folder = self.corpus.clone();
        folder.unwrap_or_else(|| workspace.target.join("corpus"))
    }
}

/// How many windows of the corpus's normal time need no scoring; nothing is recorded for it.
pub(super) fn cached(workspace: &Workspace, options: &LearningOptions) -> Result<Vec<Figure>> {
    let folder = options.folder(workspace);
    if !folder.is_dir() {
        eprintln!(
            "hits of the cache are left out: no recordings in {}, \
             `cargo xtask bench learning --record-only` makes them",
            folder.display()
        );
        return Ok(Vec::new());
    }
    measure(workspace, "cache", &folder)
}

pub(super) fn run(workspace: &Workspace, options: &LearningOptions) -> Result<Vec<Figure>> {
    let folder = options.folder(workspace);
    let wanted = Wanted {
        products: options.product.clone(),
        anew: options.anew,
        train_only: false,
    };
    corpus::record(workspace, &folder, &wanted)?;
    let mut figures = Vec::new();
    if options.record_only {
        return Ok(figures);
    }
    if options.write_types {
        return measure(workspace, "types-write", &folder);
    }
    for part in PARTS {
        figures.extend(measure(workspace, part, &folder)?);
    }
    match &options.chaosorca {
        Some(file) => figures.extend(measure(workspace, "chaosorca", file)?),
        None => eprintln!("chaosorca is left out: no data, `--chaosorca FILE`"),
    }
    Ok(figures)
}

fn measure(workspace: &Workspace, part: &str, data: &Path) -> Result<Vec<Figure>> {
    let output = Command::new(workspace.binary(PROGRAM))
        .arg(part)
        .arg(data)
        // As a sidecar trains.
        .env("RAYON_NUM_THREADS", "1")
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {PROGRAM}"))?;
    ensure!(output.status.success(), "{PROGRAM} {part} failed");
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(figure).collect()
}

fn figure(line: &str) -> Result<Figure> {
    let read = || {
        let object: Value = serde_json::from_str(line).ok()?;
        let unit = object["unit"].as_str()?.to_owned();
        let name = object["name"].as_str()?;
        let figure = Figure::new(name, object["value"].as_f64()?, unit);
        Some(match goal(name) {
            Some(goal) => figure.goal(goal),
            None => figure,
        })
    };
    read().with_context(|| format!("{PROGRAM} printed no figure: {line}"))
}

/// What a training may take, and how often a type has to be told right.
fn goal(name: &str) -> Option<Goal> {
    if name == "types.held_out.recordings.right" {
        return Some(Goal::AtLeast(98.0));
    }
    let (_, figure) = name.split_once(".training.")?;
    match figure {
        "cpu" => Some(Goal::AtMost(60.0)),
        "peak" => Some(Goal::AtMost(256.0)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_figure_some_with_a_goal() {
        let line = r#"{"name": "chaosorca.vae.error.auc.whole", "value": 0.99, "unit": "AUC"}"#;
        let expected = "chaosorca.vae.error.auc.whole: 0.99 AUC";
        assert_eq!(figure(line).unwrap().to_string(), expected);
        let line = r#"{"name":"learning.redis.training.cpu","value":61.0,"unit":"s"}"#;
        let cpu = figure(line).unwrap().to_string();
        assert!(cpu.contains("not met"), "{cpu}");
        assert!(figure(r#"{"name": "x", "value": null, "unit": "AUC"}"#).is_err());
        assert!(figure("").is_err());
    }
}
