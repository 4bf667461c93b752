//! Ways to cut the calls of real servers into units of work: how much repeats, and how well what
//! comes next can be told.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::figure::Figure;
use crate::corpus::{self, Wanted};
use crate::workspace::Workspace;

/// `bench-units cut FILE` gives one JSON object for each way of cutting a recording; models learn from
/// its first half.
const PROGRAM: &str = "bench-units";

/// Servers of the corpus.
const APPS: [&str; 9] = [
    "redis",
    "memcached",
    "nginx",
    "nginx-proxy",
    "haproxy",
    "node",
    "python",
    "go",
    "tokio",
];

/// Key in the helper's output, unit.
const VALUES: [(&str, &str); 10] = [
    ("windows_per_second", "windows/s"),
    ("length", "calls"),
    ("seen", "of windows"),
    ("contexts_seen", "of contexts"),
    ("bits_4", "bits/call"),
    ("bits_8", "bits/call"),
    ("bits_8_with_ends", "bits/call"),
    ("patterns", "patterns"),
    ("covered", "of windows"),
    ("found", "of changes"),
];

/// A table, one row for each server and way; with `json`, the same as figures.
pub(super) fn run(workspace: &Workspace, json: bool) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    if !json {
        let columns: String = VALUES.iter().map(|(key, _)| format!("{key:>20}")).collect();
        println!("{:<12}{:<16}{columns}", "server", "way");
    }
    for app in APPS {
        for way in measure(workspace, app)? {
            if json {
                figures.extend(figures_of(app, &way)?);
            } else {
                println!("{}", row(app, &way));
            }
        }
    }
    Ok(figures)
}

fn row(app: &str, way: &Value) -> String {
    let value = |(key, _): &(&str, &str)| format!("{:>20.4}", way[*key].as_f64().unwrap_or(0.0));
    let values: String = VALUES.iter().map(value).collect();
    format!("{app:<12}{:<16}{values}", way["way"].as_str().unwrap_or(""))
}

/// Nothing for a server that could not be recorded, which was said then.
fn measure(workspace: &Workspace, app: &str) -> Result<Vec<Value>> {
    let folder = workspace.target.join("bench-units");
    let wanted = Wanted {
        products: vec![app.to_owned()],
        anew: true,
        train_only: true,
    };
    corpus::record(workspace, &folder, &wanted)?;
    let file = corpus::training(&folder, app);
    if !file.is_file() {
        return Ok(Vec::new());
    }
    let name = file
        .to_str()
        .context("the build folder's name is no text")?;
    let lines = helper(workspace, &["cut", name])?;
    std::fs::remove_dir_all(&folder)?;
    let parsed = lines.lines().map(serde_json::from_str);
    Ok(parsed.collect::<Result<_, _>>()?)
}

fn helper(workspace: &Workspace, arguments: &[&str]) -> Result<String> {
    let program = workspace.binary(PROGRAM);
    let output = Command::new(&program)
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    if !output.status.success() {
        bail!("{PROGRAM} {} failed", arguments.join(" "));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn figures_of(app: &str, way: &Value) -> Result<Vec<Figure>> {
    let name = way["way"].as_str().context("a way without a name")?;
    let figure = |(key, unit): &(&str, &'static str)| {
        let value = way[*key].as_f64();
        let value = value.with_context(|| format!("{app}, {name}: no {key}"))?;
        Ok(Figure::new(
            format!("units.{app}.{name}.{key}"),
            value,
            *unit,
        ))
    };
    VALUES.iter().map(figure).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_of_a_way_is_a_figure() {
        let mut way = serde_json::json!({"way": "today"});
        assert!(figures_of("redis", &way).is_err());
        for (key, _) in VALUES {
            way[key] = 0.5.into();
        }
        assert_eq!(row("redis", &way).matches("0.5000").count(), VALUES.len());
        let figures = figures_of("redis", &way).unwrap();
        assert_eq!(figures.len(), VALUES.len());
        assert_eq!(
            figures[2].to_string(),
            "units.redis.today.seen: 0.50 of windows"
        );
    }
}
