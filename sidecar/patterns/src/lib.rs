//! What the sidecar and the trainer must compute identically: tokens, windows, similarity,
//! clustering and profiles. Pure: no I/O, no clock, no async; time and randomness are arguments.

pub mod token;

pub use token::{Outcome, Token};
