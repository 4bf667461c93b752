//! What a trial leaves: one line of JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::effect::Effect;
use super::pressure::Pressure;
use super::spec::Bound;

/// Times are seconds since 1970.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Record {
    /// `APP/VARIANT/FAULT[@TARGET]/SETTING/SEED`.
    pub(super) trial: String,
    pub(super) app: String,
    /// The application or the setting is kept apart from tuning.
    pub(super) app_held_out: bool,
    pub(super) setting_held_out: bool,
    pub(super) variant: String,
    /// Requests per second.
    pub(super) rate: f64,
    pub(super) seed: u64,
    /// Name of the fault or normal change; none of plain normal time.
    pub(super) fault: String,
    /// None of a normal change.
    pub(super) class: Option<String>,
    /// All classes that are right.
    pub(super) right_classes: Vec<String>,
    pub(super) setting: String,
    pub(super) parameters: BTreeMap<String, String>,
    pub(super) bound: Option<Bound>,
    /// Delay within which a diagnosis is in time.
    pub(super) bound_seconds: Option<f64>,
    pub(super) started_at: f64,
    pub(super) watching_at: f64,
    pub(super) injected_at: Option<f64>,
    /// When the first affected call was made.
    pub(super) affected_at: Option<f64>,
    /// `client`: its first request that failed or was slow; `injection` where none did.
    pub(super) affected_by: String,
    pub(super) undone_at: Option<f64>,
    pub(super) ended_at: f64,
    pub(super) effect: Option<Effect>,
    /// The application was well again after the fault.
    pub(super) recovered: Option<bool>,
    /// Changes within normal time: name, setting, beginning, end.
    pub(super) changes: Vec<(String, String, f64, f64)>,
    /// Every line that the sidecar printed of an incident, with `lab.heard_at`.
    pub(super) diagnoses: Vec<Value>,
    pub(super) judged: Judged,
    pub(super) sidecar: SidecarUse,
    /// Of the machine, while the pod was there.
    #[serde(default)]
    pub(super) pressure: Pressure,
    /// What it can be judged by again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kept: Option<Kept>,
    /// Judged without models, by rules alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) without_models: bool,
    /// Why the trial could not be run to its end; it counts for nothing.
    pub(super) error: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    /// The first confirmed diagnosis has a right class first.
    Right,
    Wrong,
    Missed,
    /// Nothing was broken and nothing was said.
    #[default]
    Silent,
    /// Nothing was broken and something was confirmed.
    Alarmed,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Judged {
    pub(super) outcome: Outcome,
    /// Of the first confirmed diagnosis of the fault.
    pub(super) class: Option<String>,
    pub(super) confidence: Option<f64>,
    /// Its classes, best first.
    pub(super) hypotheses: Vec<String>,
    /// From the first affected call to its confirmation; from the injection where that comes first.
    pub(super) delay_seconds: Option<f64>,
    /// The same to the first diagnosis with a right class, suspected or confirmed.
    #[serde(default)]
    pub(super) first_word_seconds: Option<f64>,
    /// Calls that were affected until the confirmation, as the diagnosis says.
    #[serde(default)]
    pub(super) affected_calls: Option<u64>,
    /// Some confirmed diagnosis of the fault had a right class first.
    pub(super) right_at_last: bool,
    /// Confirmed incidents while the fault lasted.
    pub(super) incidents: usize,
    pub(super) false_alarms: Vec<FalseAlarm>,
    /// Incidents while nothing was broken that were suspected, and not confirmed.
    #[serde(default)]
    pub(super) suspicions: usize,
    /// Watched time in which nothing was broken.
    pub(super) normal_seconds: f64,
    /// Watched time in which processors of the machine were short.
    #[serde(default)]
    pub(super) short_seconds: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct FalseAlarm {
    pub(super) at: f64,
    pub(super) class: String,
    pub(super) confidence: Option<f64>,
    pub(super) message: String,
    /// Share of the seconds before in which somebody on the machine waited for a processor.
    #[serde(default)]
    pub(super) machine_waits: Option<f64>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct SidecarUse {
    /// Of the sidecar and its trainings, since it watched.
    pub(super) cpu_seconds: f64,
    pub(super) watched_seconds: f64,
    pub(super) resident_peak_bytes: u64,
    /// The last that it said of each container, summed up.
    pub(super) calls: BTreeMap<String, u64>,
}

/// What a trial leaves beside its line.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) recording: PathBuf,
    /// A folder of bundles.
    pub(super) models: PathBuf,
    /// What became of each request that carried a trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) requests: Option<PathBuf>,
}

/// Reads the lines of result files.
///
/// # Errors
/// With file and line, when one is none of a trial.
pub(super) fn read(path: &Path) -> Result<Vec<Record>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut records = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let record = serde_json::from_str(line);
        records.push(record.with_context(|| format!("{}:{}", path.display(), number + 1))?);
    }
    Ok(records)
}

/// Trials that need not be run again.
pub(super) fn done(records: &[Record]) -> BTreeSet<String> {
    let whole = records.iter().filter(|record| record.error.is_none());
    whole.map(|record| record.trial.clone()).collect()
}
