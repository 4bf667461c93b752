//! Trials judged again from what they left: the recording of each, with the models of its application.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::judge::{self, Broken, Said};
use super::record::{Kept, Record, SidecarUse};
use super::trial::GRACE;
use super::{Results, in_parallel};
use crate::lab::{Line, is_interrupted, without_build_variables};

const NS: f64 = 1e9;

/// How recordings are judged again.
pub(super) struct Again<'a> {
    /// `stethos`.
    pub(super) binary: &'a Path,
    pub(super) without_models: bool,
    pub(super) parallel: usize,
}

impl Again<'_> {
    /// Judges all trials that left a recording; says how many did not.
    pub(super) fn run(&self, records: Vec<Record>, results: &Results) -> Result<usize> {
        let (kept, without): (Vec<_>, Vec<_>) = records
            .into_iter()
            .filter(|record| record.error.is_none())
            .partition(|record| record.kept.is_some());
        let queue = Mutex::new(kept.into_iter());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        in_parallel(self.parallel, &|_| {
            while let Some(record) = next().filter(|_| !is_interrupted()) {
                results.add(&self.judge(record)?)?;
            }
            Ok(())
        })?;
        Ok(without.len())
    }

    fn judge(&self, mut record: Record) -> Result<Record> {
        let kept = record.kept.clone().unwrap_or_default();
        let lines = replay(self.binary, &kept, |command| {
            if self.without_models {
                command.env("STETHOS_DIAGNOSIS_MODELS", "false");
            }
        })?;
        let said: Vec<Said> = lines.iter().filter_map(said).collect();
        let broken = record.injected_at.filter(|_| record.class.is_some());
        let broken = broken.map(|injected_at| Broken {
            injected_at,
            affected_at: record.affected_at.unwrap_or(injected_at),
            until: record.undone_at.unwrap_or(injected_at) + GRACE.as_secs_f64(),
            right: &record.right_classes,
        });
        let watched = (record.watching_at, record.ended_at);
        record.judged = judge::judge(&said, broken, watched, &record.pressure);
        record.diagnoses = lines;
        record.sidecar = SidecarUse::default();
        record.without_models = self.without_models;
        Ok(record)
    }
}

/// What a recording gives with the models beside it, line by line; `more` sets what else is asked for.
pub(super) fn replay(
    binary: &Path,
    kept: &Kept,
    more: impl FnOnce(&mut Command),
) -> Result<Vec<Value>> {
    let mut command = Command::new(binary);
    command.arg("replay").arg(&kept.recording).arg("--json");
    for bundle in files(&kept.models)? {
        command.arg("--bundle").arg(bundle);
    }
    more(&mut command);
    without_build_variables(&mut command);
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| binary.display().to_string())?;
    ensure!(
        output.status.success(),
        "{}: {}",
        kept.recording.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().map(serde_json::from_str);
    Ok(lines.collect::<Result<_, _>>()?)
}

/// A line as if it had been heard when it was observed.
fn said(all: &Value) -> Option<Said> {
    let Line::Diagnosis(diagnosis) = Line::parse(&all.to_string())? else {
        return None;
    };
    let at = all["observed_timestamp"].as_u64()? as f64 / NS;
    Some(Said::new(at, *diagnosis, all))
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let files = entries.map(|entry| Ok(entry?.path()));
    let mut files = files.collect::<Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_replayed_line_is_heard_when_it_was_observed() {
        let line = json!({
            "event_name": "stethos.fault.diagnosis",
            "observed_timestamp": 1_700_000_000_500_000_000_u64,
            "error.type": "disk.full",
            "stethos.incident.id": "7f3a",
            "stethos.incident.state": "confirmed",
            "stethos.fault.confidence": 0.9,
            "body": "full",
        });
        let said = said(&line).unwrap();
        assert_eq!(
            (said.at, said.class.as_str()),
            (1_700_000_000.5, "disk.full")
        );
        assert!(said.confirmed);
    }
}
