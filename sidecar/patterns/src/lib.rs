//! What the sidecar and the trainer must compute identically: tokens, windows, similarity,
//! clustering and profiles. Pure: no I/O, no clock, no async; time and randomness are arguments.
//!
//! | module | holds |
//! | --- | --- |
//! | [`token`], [`names`], [`vocabulary`], [`window`] | one call, what it is called, its number in a model, a run of calls |
//! | [`descriptors`] | what a descriptor stands for, and exchanges between request and answer |
//! | [`similarity`], [`cluster`] | which windows do the same kind of work |
//! | [`familiarity`] | how much is still unseen |
//! | [`histogram`], [`baseline`], [`profile`] | what is normal: durations, counts, an interval as a vector |
//! | [`usage`] | what a container does, by name |
//! | [`score`] | how strange a window is |

pub mod baseline;
pub mod cluster;
pub mod descriptors;
pub mod familiarity;
pub mod histogram;
pub mod names;
pub mod profile;
pub mod score;
pub mod similarity;
pub mod token;
pub mod usage;
pub mod vocabulary;
pub mod window;

pub use token::{Outcome, Token};
pub use vocabulary::Vocabulary;
pub use window::{Role, Window, WindowCall};
