//! A loaded model: next-token GRU and, where the bundle has one, the profile autoencoder.

use tract_core::internal::TractError;

use crate::autoencoder::{Assessment, Autoencoder};
use crate::gru::Gru;
use crate::tensors::Tensors;

/// Tokens in a window at most.
pub const WINDOW_LIMIT: usize = 64;

/// One unit of work.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    /// Frozen pattern of the bundle; none when no pattern is near.
    pub pattern: Option<u32>,
    /// Vocabulary ids in order, at most [`WINDOW_LIMIT`].
    pub tokens: Vec<u16>,
}

/// One entry per token of the window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// `-ln p(token | pattern, tokens before)`, in nats, never below zero.
    pub surprise: Vec<f32>,
    /// The id that was most likely at that place.
    pub expected: Vec<u16>,
}

/// What a loaded model holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelShape {
    /// Number of vocabulary ids, `unknown` (0) and `gap` (1) included.
    pub vocabulary: u32,
    /// Number of frozen patterns.
    pub patterns: u32,
    /// Length of a profile; 0 without an autoencoder.
    pub profile: u32,
    /// Length of the latent code; 0 without an autoencoder.
    pub latent: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("model is not a safetensors file: {0}")]
    File(safetensors::SafeTensorError),
    #[error("model has no tensor {0}")]
    Missing(&'static str),
    #[error("tensor {tensor} is {found}, not F32")]
    Type { tensor: &'static str, found: String },
    #[error("tensor {tensor} has shape {found}, expected {expected}")]
    Shape {
        tensor: &'static str,
        expected: String,
        found: String,
    },
    #[error("tensor {tensor} is not finite at {index}")]
    NotFinite { tensor: &'static str, index: usize },
    #[error("tensor {tensor} has {found} at {index}, which is none of {rows} rows")]
    Row {
        tensor: &'static str,
        index: usize,
        found: f32,
        rows: usize,
    },
    #[error("tensor {tensor} is not positive at {index}")]
    NotPositive { tensor: &'static str, index: usize },
    #[error("window {index} has {length} tokens, more than {WINDOW_LIMIT}")]
    WindowLength { index: usize, length: usize },
    #[error("window {index} has pattern {pattern}, the model has {patterns}")]
    Pattern {
        index: usize,
        pattern: u32,
        patterns: usize,
    },
    #[error("window {index} has token id {token}, the vocabulary has {vocabulary}")]
    Token {
        index: usize,
        token: u16,
        vocabulary: usize,
    },
    #[error("profile {index} has {length} entries, expected {expected}")]
    ProfileLength {
        index: usize,
        length: usize,
        expected: usize,
    },
    #[error("model has no autoencoder")]
    NoAutoencoder,
    #[error("inference failed: {0:#}")]
    Inference(TractError),
}

impl From<TractError> for ModelError {
    fn from(error: TractError) -> Self {
        ModelError::Inference(error)
    }
}

/// Scores windows and assesses profiles. Both are pure functions of the model and their
/// argument: the result for one window or profile has the same bits in any order and batch.
pub struct Model {
    gru: Gru,
    autoencoder: Option<Autoencoder>,
}

impl Model {
    /// Reads the `model` tensors of a bundle (safetensors). Errors name the tensor.
    pub fn read(bytes: &[u8]) -> Result<Self, ModelError> {
        let tensors = Tensors::read(bytes)?;
        Ok(Model {
            gru: Gru::read(&tensors)?,
            autoencoder: Autoencoder::read(&tensors)?,
        })
    }

    pub fn shape(&self) -> ModelShape {
        ModelShape {
            vocabulary: self.gru.vocabulary as u32,
            patterns: self.gru.patterns as u32,
            profile: self
                .autoencoder
                .as_ref()
                .map_or(0, |vae| vae.profile as u32),
            latent: self.autoencoder.as_ref().map_or(0, |vae| vae.latent as u32),
        }
    }

    /// One verdict per window, in order. Errors name the window.
    pub fn score(&mut self, windows: &[Window]) -> Result<Vec<Verdict>, ModelError> {
        self.gru.score(windows)
    }

    /// One assessment per profile, in order. Errors name the profile.
    pub fn assess(&mut self, profiles: &[Vec<f32>]) -> Result<Vec<Assessment>, ModelError> {
        let vae = self.autoencoder.as_mut().ok_or(ModelError::NoAutoencoder)?;
        profiles
            .iter()
            .enumerate()
            .map(|(index, profile)| vae.assess(index, profile))
            .collect()
    }
}
