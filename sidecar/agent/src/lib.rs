//! The Stethos sidecar as a library. The path of the data:
//!
//! ```text
//! capture ─► windows ─► plugin ─► diagnosis ─► trace ─► export
//! records    units of   verdicts  diagnoses    whose    OTLP
//!            work                              span
//! ```
//!
//! [`pipeline`] connects the stages; [`learning`] makes the models that they use.

pub mod accepted;
pub mod capture;
pub mod cli;
pub mod config;
pub mod control;
pub mod diagnosis;
pub mod doctor;
pub mod export;
pub mod import;
pub mod learning;
pub mod models;
pub mod passthrough;
pub mod pipeline;
pub mod plugin;
pub mod record;
mod resources;
mod sequential;
pub mod trace;
pub mod windows;
