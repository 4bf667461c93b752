//! Learns a [`Bundle`] from the windows of one container.
//!
//! | module | step |
//! | --- | --- |
//! | [`corpus`] | vocabulary, frozen patterns, split into training and held-back blocks of time |
//! | [`followers`] | what comes after each token in windows of each pattern, by counts |
//! | [`gru`] | next-token model that starts from these, its initial state chosen by the pattern |
//! | [`vae`] | autoencoder of profiles |
//! | [`markov`] | the simple model that the GRU is compared with |
//! | [`calibration`] | limits from held-back windows |
//!
//! # Method
//! The windows in order of time are cut into [`corpus::BLOCKS`] blocks; every fourth is held
//! back from vocabulary, patterns and weights, and serves for calibration and for the losses on
//! the model card. A step of the GRU draws windows, half of them among distinct ones, with weights
//! that make the expected loss that of all windows, each as often as it came to the power of 0.75: what
//! came three times among a hundred thousand is told from what never came. The result is a function of
//! input and seed as long as the time limit does not cut training.
//!
//! What each of this is worth is measured on recordings of real servers: `docs/learning.md`.
//!
//! # Training library
//! candle, chosen by measuring the same GRU (vocabulary 64, embedding 16, hidden 48, windows of
//! 32, batch 64, Adam) on one thread of a shared x86-64 machine:
//!
//! | | candle 0.11.1 | burn 0.22.1, flex backend with SIMD |
//! | --- | --- | --- |
//! | steps per second of CPU time | 130–135 | 120–130 |
//! | compile, CPU time from nothing | 250 s | 370 s |
//! | added to a stripped release binary | 4.3 MB | 5.4 MB |
//! | packages in the tree | 156 | 184 |
//!
//! They are equally fast and learn alike; candle costs less to build and to ship. Plain
//! automatic differentiation is fast enough (a few CPU seconds a container), so there is no
//! kernel of our own. candle's matrix products use as many threads as `RAYON_NUM_THREADS` says;
//! a caller that shares the machine sets it to 1 before its first call. The version in use is
//! 0.9.2: from 0.10 on candle-core brings a text tokenizer and a C library into every build.

pub mod calibration;
pub mod corpus;
mod epochs;
pub mod error;
pub mod followers;
pub mod gru;
pub mod markov;
mod profiles;
mod tensors;
mod training;
pub mod vae;

use std::time::Duration;

use stethos_bundle::Bundle;
use stethos_patterns::Window;
use stethos_patterns::baseline::Baseline;
use stethos_patterns::usage::Usage;

pub use error::TrainError;

/// What was learned about one container.
#[derive(Clone, Debug)]
pub struct TrainingInput {
    /// `x86_64`, `aarch64` or `i386`: what the call numbers mean.
    pub arch: String,
    /// Name of the container or image, for the model card.
    pub container: String,
    /// Unix time in seconds, for the model card.
    pub created_unix: u64,
    /// Normal windows in any order.
    pub windows: Vec<Window>,
    pub baseline: Baseline,
    pub usage: Usage,
    /// Good–Turing share of contexts not seen before.
    pub unseen_mass: f64,
    /// Learning ended at its time limit: limits become wider.
    pub widened: bool,
}

/// Sizes and effort of training.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainConfig {
    pub seed: u64,
    pub embedding: usize,
    pub hidden: usize,
    /// Size of the autoencoder's hidden layers and of its latent code.
    pub vae_hidden: usize,
    pub latent: usize,
    /// Whether windows are sorted into patterns, which choose the GRU's initial state.
    pub conditioned: bool,
    /// Gradient steps of the GRU, each on at most 64 windows.
    pub steps: usize,
    /// Windows weigh as often as they came to the power of this: below 1, what is rare is learned
    /// better than it pays for the mean loss.
    pub temper: f64,
    /// Share of the windows of a step that are drawn at random among distinct ones; the rest are drawn
    /// by weight.
    pub spread: f64,
    /// Whether the GRU starts from counts of what comes after each token.
    pub followers: bool,
    /// Share of normal windows and profiles that may exceed their limit.
    pub false_alarm_rate: f64,
    /// Epochs, and in need the first epoch, are cut so that training ends at about this time.
    pub time_limit: Option<Duration>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        let vae = vae::VaeConfig::default();
        TrainConfig {
            seed: 1,
            embedding: 16,
            hidden: 48,
            vae_hidden: vae.hidden,
            latent: vae.latent,
            conditioned: true,
            steps: 2400,
            temper: 0.75,
            spread: 0.5,
            followers: true,
            false_alarm_rate: 1e-3,
            time_limit: None,
        }
    }
}

/// Where training stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    pub phase: Phase,
    /// Of the phase, 0…1.
    pub fraction: f64,
    /// Training loss: nats per token of the GRU, mean squared error of the autoencoder.
    pub loss: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Patterns,
    Sequences,
    Profiles,
    Calibration,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Phase::Patterns => "patterns",
            Phase::Sequences => "sequences",
            Phase::Profiles => "profiles",
            Phase::Calibration => "calibration",
        })
    }
}

/// Learns a bundle; seconds of CPU time for 50 000 calls.
///
/// # Errors
/// Too little or degenerate input, or a fault of the training library.
pub fn train(
    input: TrainingInput,
    config: &TrainConfig,
    progress: &mut dyn FnMut(Progress),
) -> Result<Bundle, TrainError> {
    training::train(input, config, progress)
}
