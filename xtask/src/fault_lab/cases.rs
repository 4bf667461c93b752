//! Trials that become replay cases of the tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use super::record::{Outcome, Record};
use super::trial::GRACE;

/// A larger recording is not committed.
const LARGEST: u64 = 400_000;
/// Where cases have the models of applications.
const MODELS: &str = "models";

#[derive(Serialize)]
struct Case<'a> {
    trial: &'a str,
    classes: &'a [String],
    from: u64,
    to: u64,
    models: PathBuf,
}

/// Writes the trials that were judged right and left a small recording, one for each class and
/// application, as cases into `folder`. Gives their names.
pub(super) fn write(records: &[Record], folder: &Path) -> Result<BTreeSet<String>> {
    let mut written = BTreeSet::new();
    for record in records {
        let Some(kept) = &record.kept else { continue };
        let size = fs::metadata(&kept.recording).map_or(u64::MAX, |file| file.len());
        let right = record.judged.outcome == Outcome::Right || silent(record);
        if !right || !record.judged.false_alarms.is_empty() || size > LARGEST {
            continue;
        }
        let class = record.class.as_deref().unwrap_or(&record.fault);
        let name = format!("{class}-{}", record.app);
        if !written.insert(name.clone()) {
            continue;
        }
        // Applications are learned anew for other files and binaries: their models have a folder each.
        let of_app = kept.models.file_name().unwrap_or_default();
        let models = Path::new(MODELS).join(of_app);
        copy_all(&kept.models, &folder.join(&models))?;
        let own = folder.join(&name);
        fs::create_dir_all(&own).with_context(|| own.display().to_string())?;
        copy(&kept.recording, &own.join("trial.rec"))?;
        let ns = |seconds: f64| (seconds * 1e9) as u64;
        let case = Case {
            trial: &record.trial,
            classes: if silent(record) {
                &[]
            } else {
                &record.right_classes
            },
            from: ns(record.injected_at.unwrap_or(record.watching_at)),
            to: ns(record.undone_at.unwrap_or(record.ended_at) + GRACE.as_secs_f64()),
            models: Path::new("..").join(models),
        };
        let path = own.join("case.json");
        let text = serde_json::to_string_pretty(&case)? + "\n";
        fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    Ok(written)
}

/// A normal change of which nothing was said.
fn silent(record: &Record) -> bool {
    record.class.is_none() && !record.fault.is_empty() && record.judged.outcome == Outcome::Silent
}

fn copy_all(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let path = entry?.path();
        copy(&path, &to.join(path.file_name().unwrap_or_default()))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("{} to {}", from.display(), to.display()))
}
