//! The model bundle: everything the sidecar knows about one container, in one file.
//!
//! | part | what reads it |
//! | --- | --- |
//! | [`ModelCard`] | people, and the attributes of a diagnosis |
//! | vocabulary, patterns, [`Thresholds`], baseline, profile layout | the sidecar |
//! | usage | plugins, which tell the application's type by it |
//! | `model` | the plugin, unread by the sidecar |
//!
//! The file is described in [`file`]; [`Bundle::read`] refuses what is foreign, truncated,
//! damaged or of another version with the file's name, the position and the reason.

mod check;
pub mod error;
pub mod file;
pub mod sample;
mod standard;

use serde::{Deserialize, Serialize};
use stethos_patterns::Token;
use stethos_patterns::baseline::Baseline;
use stethos_patterns::cluster::FrozenPattern;
use stethos_patterns::profile::ProfileLayout;
use stethos_patterns::usage::Usage;

pub use error::BundleError;
pub use standard::StandardProfile;

/// A window less similar than this to every frozen medoid has no pattern
/// (`stethos_patterns::cluster::PatternIndex`). Trainer and sidecar must agree on it.
pub const PATTERN_FLOOR: f64 = 0.4;

/// A trained model with what is needed to use it.
#[derive(Clone, Debug)]
pub struct Bundle {
    pub card: ModelCard,
    /// Tokens by vocabulary id: `vocabulary[i]` has id `i + 2`; 0 is unknown, 1 is a gap.
    pub vocabulary: Vec<Token>,
    /// Frozen patterns by index; a window near none of them has no pattern.
    pub patterns: Vec<FrozenPattern>,
    pub thresholds: Thresholds,
    pub baseline: Baseline,
    /// What the container did while it was learned: what its application type is told by.
    pub usage: Usage,
    pub profile_layout: ProfileLayout,
    /// The plugin's tensors: a safetensors file of f32 tensors without metadata.
    pub model: Vec<u8>,
}

/// What a model is and how good it is, for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelCard {
    /// Name of the container (or image) that the model was learned from.
    pub container: String,
    /// `x86_64` or `aarch64`: what the call numbers mean.
    pub arch: String,
    /// When the model was trained, Unix time in seconds.
    pub created_unix: u64,
    /// Windows, distinct windows and calls it was learned and calibrated from.
    pub windows: u64,
    pub distinct_windows: u64,
    pub calls: u64,
    /// Span of the recorded time in seconds.
    pub seconds: f64,
    /// Number of vocabulary ids, unknown and gap included.
    pub vocabulary: u32,
    pub patterns: u32,
    pub embedding: u32,
    pub hidden: u32,
    /// Good–Turing share of contexts not seen before, at the end of learning.
    pub unseen_mass: f64,
    /// How well the patterns stand for the windows that were held back: the share of these that is
    /// near one, and the simplified silhouette, -1…1
    /// ([`stethos_patterns::cluster::Quality`]).
    pub coverage: f64,
    pub silhouette: f64,
    /// Gradient steps that the GRU took.
    pub steps: u32,
    /// Windows that were held back from training, for calibration and the losses below.
    pub held_back_windows: u64,
    /// GRU loss on the training windows at the end, nats per token.
    pub training_loss: f64,
    /// Losses on the held-back windows, nats per token: GRU, and Witten–Bell Markov models of
    /// order 3 and 8 trained on the same windows.
    pub loss: f64,
    pub markov3_loss: f64,
    pub markov8_loss: f64,
    /// Learning ended at its time limit rather than by itself: thresholds are wider.
    pub widened: bool,
    /// Version of the trainer.
    pub trainer: String,
    pub seed: u64,
    /// What the model was learned from, with `container` and `arch`; none for one that was trained
    /// from recordings by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
}

/// What a model was learned from, beside container and architecture. A shared store gives a bundle
/// out only under the names that its card holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    pub tenant: String,
    pub workload: String,
    /// Start of the digest of executable and command line, in hexadecimal.
    pub command: String,
    /// Digest of the container's image (`sha256:…`); none where it was not known.
    pub image: Option<String>,
}

/// Limits calibrated on held-back normal windows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// Share of normal windows whose score is expected above its limit.
    pub false_alarm_rate: f64,
    /// Limit of `stethos_patterns::score::window_score` per frozen pattern, in nats; the last
    /// entry is for windows without a pattern.
    pub patterns: Vec<f64>,
    /// Mean squared error of the standardised profile's reconstruction on normal profiles:
    /// median, and the limit at the false-alarm rate.
    pub reconstruction_median: f64,
    pub reconstruction_limit: f64,
}

/// What limits are multiplied with when less than usual is known of what is normal.
pub const WIDENED: f64 = 1.5;

impl Thresholds {
    /// The same limits, wider.
    #[must_use]
    pub fn widened(&self) -> Self {
        Thresholds {
            patterns: self.patterns.iter().map(|limit| limit * WIDENED).collect(),
            reconstruction_limit: self.reconstruction_limit * WIDENED,
            ..*self
        }
    }

    /// Limit for a window of `pattern`, in nats. An index that is not a pattern has none.
    pub fn window_limit(&self, pattern: Option<usize>) -> f64 {
        let none = self.patterns.len().saturating_sub(1);
        let index = pattern.filter(|&p| p < none).unwrap_or(none);
        self.patterns.get(index).copied().unwrap_or(f64::INFINITY)
    }

    /// How much a container runs as learned: 1 up to the median reconstruction error, 0.5 at
    /// the limit, falling exponentially to 0 above. An error that is not a number gives 0.
    pub fn stability(&self, reconstruction_error: f64) -> f64 {
        if reconstruction_error.is_nan() {
            return 0.0;
        }
        let span = self.reconstruction_limit - self.reconstruction_median;
        if reconstruction_error <= self.reconstruction_median {
            1.0
        } else if span <= 0.0 {
            0.0
        } else {
            (-std::f64::consts::LN_2 * (reconstruction_error - self.reconstruction_median) / span)
                .exp()
        }
    }
}

impl Bundle {
    /// Reads a bundle. `name` is the file's name, for messages.
    ///
    /// # Errors
    /// Anything that is not a whole, undamaged bundle of this version.
    pub fn read(bytes: &[u8], name: &str) -> Result<Bundle, BundleError> {
        file::read(bytes, name)
    }

    /// The bundle as a file. Equal bundles give equal bytes.
    ///
    /// # Errors
    /// [`BundleError::Inconsistent`] when the parts do not fit each other.
    pub fn write(&self) -> Result<Vec<u8>, BundleError> {
        file::write(self)
    }

    /// 16 hexadecimal digits that name this bundle: the start of the file's digest. Costs as
    /// much as [`Bundle::write`]; empty for a bundle that `write` refuses.
    pub fn id(&self) -> String {
        file::digest(self)
            .map(|digest| digest[..16].to_owned())
            .unwrap_or_default()
    }
}
