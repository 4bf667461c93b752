//! What diagnosis is given beside the records themselves.

use serde::{Deserialize, Serialize};
use stethos_bundle::{Bundle, Thresholds};
use stethos_patterns::baseline::Baseline;
use stethos_patterns::cluster::FrozenPattern;
use stethos_patterns::{Vocabulary, Window};

use crate::diagnosis::verdict::Verdict;

/// One window and what the models say about it.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgedWindow {
    pub window: Window,
    /// Index of the frozen pattern; none when no pattern is near.
    pub pattern: Option<u32>,
    /// None while no plugin has judged it.
    pub verdict: Option<Verdict>,
}

/// What is normal in one container.
#[derive(Clone, Debug)]
pub struct ContainerModel {
    /// `x86_64` or `aarch64`: what the call numbers mean.
    pub arch: String,
    pub vocabulary: Vocabulary,
    pub patterns: Vec<FrozenPattern>,
    pub thresholds: Thresholds,
    pub baseline: Baseline,
}

impl From<&Bundle> for ContainerModel {
    fn from(bundle: &Bundle) -> Self {
        ContainerModel {
            arch: bundle.card.arch.clone(),
            vocabulary: Vocabulary::new(bundle.vocabulary.iter().copied()),
            patterns: bundle.patterns.clone(),
            thresholds: bundle.thresholds.clone(),
            baseline: bundle.baseline.clone(),
        }
    }
}

/// Diagnosis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiagnosisConfig {
    /// Listen to the models (surprise and stability). Without them only errors, durations and
    /// lifecycle are judged.
    pub models: bool,
    /// False alarms that all signals together may raise, per pod and day.
    pub false_alarms_per_day: f64,
    /// Affected calls reported per incident and minute; the rest is counted only.
    pub affected_per_minute: u32,
    /// Network exchanges are slow only when they take this much longer than their median, in ms.
    pub slowdown_ms: u64,
    /// The same for calls on files, in ms.
    pub file_slowdown_ms: u64,
}

impl Default for DiagnosisConfig {
    fn default() -> Self {
        DiagnosisConfig {
            models: true,
            false_alarms_per_day: 1.0,
            affected_per_minute: 200,
            slowdown_ms: 8,
            file_slowdown_ms: 10,
        }
    }
}

/// A value of a profile that is far from its mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Stray {
    /// `share of fdatasync:ok`.
    pub name: String,
    /// How far, in learned standard deviations.
    pub deviations: f32,
    /// It is the share of a call that went well.
    pub success: bool,
}

/// A value is far off, in standard deviations.
const FAR_OFF: f32 = 5.0;

impl Stray {
    /// Too much for chance, and for another mix of what was learned. Errors are judged by themselves, and
    /// what is done less follows from them.
    pub fn is_far_off(&self) -> bool {
        self.success && self.deviations >= FAR_OFF
    }
}

impl std::fmt::Display for Stray {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} {:+.1}", self.name, self.deviations)
    }
}
