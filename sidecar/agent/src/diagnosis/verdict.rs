//! What a plugin says about one window.

/// Verdict of a plugin on one window; vectors have one entry per token of the window.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// -ln p(token | pattern, tokens before), in nats.
    pub surprise: Vec<f32>,
    /// The vocabulary id that the model thought most likely at that place.
    pub expected: Vec<u16>,
}
