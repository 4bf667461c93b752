//! From signals to diagnoses. Pure: no clock, no input or output; time comes with the records.
//!
//! | part | does |
//! | --- | --- |
//! | [`engine`] | takes observations, hands out reports |
//! | [`observation`] | what goes in, beside records |
//! | `reference` | the learned normal, as the detectors ask for it |
//! | `signals` | one detector per statistic, each a sequential test ([`engine::Engine`] feeds them) |
//! | `pod` | who is who: containers, processes, listeners, descriptors |
//! | `evidence`, `incident`, `board` | signals that belong together, and their life |
//! | `acceptance`, `muted` | what an operator says about incidents |
//! | `classify` | evidence to classes with confidence |
//! | [`attention`] | whether everything has to be shipped, or what is unfamiliar is enough |
//! | `strange`, `wording`, `figures` | what a person reads |
//! | [`report`], [`verdict`] | what comes out; what plugins say |

mod acceptance;
pub mod attention;
mod board;
mod classify;
pub mod engine;
mod errno;
mod evidence;
mod figures;
mod incident;
mod muted;
pub mod observation;
mod pod;
pub(crate) mod reference;
pub mod report;
mod signal;
mod signals;
mod strange;
pub mod verdict;
mod wording;

#[cfg(test)]
mod tests;

pub use acceptance::Acceptance;
pub use board::operator::{Muted, Refused};
pub use engine::Engine;
pub use observation::{ContainerModel, DiagnosisConfig, JudgedWindow};
