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
//! Loading, scoring and assessing have implementations with tract (`Model`); a plugin that
//! knows more about its application overrides them. Without the crate's feature `models` a plugin has
//! no models: it is small, and tells its application type by [`Plugin::fit`], for which [`fit`] has
//! what the built-in ones use.

#[cfg(feature = "models")]
mod autoencoder;
mod export;
pub mod fit;
#[cfg(feature = "models")]
mod gru;
#[cfg(feature = "models")]
mod lanes;
#[cfg(feature = "models")]
mod model;
#[cfg(feature = "models")]
pub mod sample;
#[cfg(feature = "models")]
mod tensors;
pub mod usage;

#[cfg(feature = "models")]
pub use autoencoder::Assessment;
pub use export::{Guest, Plugin, bindings};
#[cfg(feature = "models")]
pub use model::{Model, ModelError, ModelShape, Verdict, WINDOW_LIMIT, Window};
pub use usage::Usage;
