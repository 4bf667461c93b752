//! Guest SDK of Stethos pattern plugins.
//!
//! A plugin is a type that implements [`Plugin`] and one line that exports it:
//!
//! ```
//! use stethos_plugin_sdk::{Plugin, export_plugin};
//!
//! struct Billing;
//!
//! impl Plugin for Billing {
//!     const NAME: &'static str = "billing";
//!     const VERSION: &'static str = env!("CARGO_PKG_VERSION");
//!     const APPLICATION_TYPE: &'static str = "http-server";
//! }
//!
//! export_plugin!(Billing);
//! # fn main() {}
//! ```
//!
//! Loading, scoring and assessing have implementations with tract ([`Model`]); a plugin that
//! knows more about its application overrides them.

mod autoencoder;
mod export;
mod gru;
mod lanes;
mod model;
pub mod sample;
mod tensors;

pub use autoencoder::Assessment;
pub use export::{Guest, Plugin, bindings};
pub use model::{Model, ModelError, ModelShape, Verdict, WINDOW_LIMIT, Window};
