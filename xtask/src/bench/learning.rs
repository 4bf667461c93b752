//! How well what is learned tells faults from normal time, on data with labels.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::figure::Figure;
use crate::workspace::Workspace;

/// `bench-learning PART FILE` prints one JSON object a figure: name, value, unit.
const PROGRAM: &str = "bench-learning";

/// Parts, and the option that names the data of each.
const PARTS: [(&str, &str); 1] = [("chaosorca", "--chaosorca")];

/// The figures of every part; `files` are in the order of the parts.
pub(super) fn run(
    workspace: &Workspace,
    files: [Option<&Path>; PARTS.len()],
) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for ((part, option), file) in PARTS.into_iter().zip(files) {
        match file {
            Some(file) => figures.extend(measure(workspace, part, file)?),
            None => eprintln!("{part} is left out: no data, `{option} FILE`"),
        }
    }
    Ok(figures)
}

fn measure(workspace: &Workspace, part: &str, file: &Path) -> Result<Vec<Figure>> {
    let program = workspace.binary(PROGRAM);
    let output = Command::new(&program)
        .arg(part)
        .arg(file)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    if !output.status.success() {
        bail!("{PROGRAM} {part} {} failed", file.display());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(figure).collect()
}

fn figure(line: &str) -> Result<Figure> {
    let read = || {
        let object: Value = serde_json::from_str(line).ok()?;
        let unit = object["unit"].as_str()?.to_owned();
        Some(Figure::new(
            object["name"].as_str()?,
            object["value"].as_f64()?,
            unit,
        ))
    };
    read().with_context(|| format!("{PROGRAM} printed no figure: {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_figure() {
        let line = r#"{"name": "chaosorca.vae.error.auc.whole", "value": 0.99, "unit": "AUC"}"#;
        let expected = "chaosorca.vae.error.auc.whole: 0.99 AUC";
        assert_eq!(figure(line).unwrap().to_string(), expected);
        assert!(figure(r#"{"name": "x", "value": null, "unit": "AUC"}"#).is_err());
        assert!(figure("").is_err());
    }
}
