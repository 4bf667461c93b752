//! Why no bundle could be learned.

use stethos_bundle::BundleError;

#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error("too little to learn from: {found} {what}, at least {needed} are needed")]
    TooLittle {
        what: &'static str,
        found: usize,
        needed: usize,
    },
    #[error("nothing to learn: {0}")]
    Degenerate(String),
    #[error("setting {setting}: {reason}")]
    Setting {
        setting: &'static str,
        reason: String,
    },
    #[error("training does not converge: the loss of the {model} is {loss} after {steps} steps")]
    Diverged {
        model: &'static str,
        loss: f64,
        steps: usize,
    },
    #[error("model has no tensor {0} of a fitting shape")]
    Tensor(&'static str),
    #[error("training library: {0}")]
    Library(#[from] candle_core::Error),
    #[error("model tensors: {0}")]
    Tensors(#[from] safetensors::SafeTensorError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
}
