use std::time::Duration;

/// Why a plugin could not be loaded, or a call to it failed. Every message names the plugin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PluginError {
    #[error("plugin runtime: {0}")]
    Runtime(String),
    #[error("plugin `{name}`: {size} bytes, more than the {limit} that a component may have")]
    TooLarge {
        name: String,
        size: usize,
        limit: usize,
    },
    #[error(
        "plugin `{name}`: empty; a build without the WebAssembly toolchain has no built-in plugin"
    )]
    Empty { name: String },
    #[error("plugin `{name}`: not a WebAssembly component: {reason}")]
    NotAComponent { name: String, reason: String },
    #[error("plugin `{name}`: imports {}; a plugin gets nothing from outside", .imports.join(", "))]
    Imports { name: String, imports: Vec<String> },
    #[error("plugin `{name}`: made for contract {found}, this sidecar speaks {expected}")]
    OtherContract {
        name: String,
        found: String,
        expected: &'static str,
    },
    #[error("plugin `{name}`: exports no contract; this sidecar speaks {expected}")]
    NoContract {
        name: String,
        expected: &'static str,
    },
    #[error("plugin `{name}`: exports {expected} with other functions or types: {reason}")]
    DifferentContract {
        name: String,
        expected: &'static str,
        reason: String,
    },
    #[error("plugin `{name}`: trapped: {reason}")]
    Trap { name: String, reason: String },
    #[error("plugin `{name}`: not done after {limit:?}")]
    Timeout { name: String, limit: Duration },
    #[error("plugin `{name}`: asked for more than its {limit} bytes of memory")]
    Memory { name: String, limit: usize },
    #[error("plugin `{name}`: invalid answer: {reason}")]
    Invalid { name: String, reason: String },
    /// The guest's own, orderly error.
    #[error("plugin `{name}`: {reason}")]
    Refused { name: String, reason: String },
    #[error("plugin `{name}`: restarts in {wait:?} after {failures} failures in a row")]
    BackingOff {
        name: String,
        failures: u32,
        wait: Duration,
    },
    #[error("plugin `{name}`: quarantined after {failures} failures")]
    Quarantined { name: String, failures: u32 },
    #[error("plugin `{name}`: model {model} is not loaded")]
    UnknownModel { name: String, model: u32 },
    #[error("plugin `{name}`: its thread has ended")]
    Stopped { name: String },
}

impl PluginError {
    /// True when the guest ran and went wrong, rather than being no plugin for this sidecar.
    pub fn is_misbehaviour(&self) -> bool {
        matches!(
            self,
            PluginError::Trap { .. }
                | PluginError::Timeout { .. }
                | PluginError::Memory { .. }
                | PluginError::Invalid { .. }
                | PluginError::Stopped { .. }
        )
    }

    /// True when the plugin will not answer any more.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            PluginError::Quarantined { .. } | PluginError::Stopped { .. }
        )
    }
}
