//! Pattern plugins: WebAssembly components that score windows and assess profiles.
//!
//! A guest gets nothing from its host but its arguments: no imports, a memory limit, a deadline
//! for every batch. Whatever a guest does costs its own batch: the call fails with a
//! [`PluginError`], is counted in [`PluginSnapshot`], and the guest starts afresh with its models.
//! A guest that keeps failing is quarantined.
//!
//! | part | what it does |
//! | --- | --- |
//! | `contract` | the contract's types; refuses components that do not fit, before they run |
//! | `compiled` | compiles, and keeps compiled components on disk |
//! | `limits` | memory limit and deadline |
//! | `instance` | one running guest; every call ends in a result or a typed failure |
//! | `health` | when a failed guest is started again, and when no more |
//! | `worker` | the plugin's own thread: models, restarts, quarantine |
//! | `results` | verdicts of windows seen before |
//! | `usage` | what a container does, as the contract has it |

mod compiled;
mod contract;
mod error;
mod health;
mod host;
mod instance;
mod limits;
mod metrics;
mod results;
mod usage;
mod worker;

pub use contract::{Assessment, CONTRACT, Description, ModelShape, TokenWindow};
pub use error::PluginError;
pub use host::{LoadedModel, ModelId, Plugin, PluginHost};
pub use metrics::PluginSnapshot;

use std::path::PathBuf;
use std::time::Duration;

/// The built-in plugin; empty in a build without the WebAssembly toolchain.
pub const GENERIC_COMPONENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/generic.wasm"));

macro_rules! embedded {
    ($name:literal) => {
        (
            $name,
            include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".wasm")),
        )
    };
}

/// The built-in plugins that tell application types, by name; empty like [`GENERIC_COMPONENT`].
pub const TYPE_COMPONENTS: [(&str, &[u8]); 8] = [
    embedded!("http-server"),
    embedded!("key-value-cache"),
    embedded!("sql-database"),
    embedded!("message-broker"),
    embedded!("reverse-proxy"),
    embedded!("jvm"),
    embedded!("node"),
    embedded!("python"),
];

/// What a guest may take, and how its failures are handled.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Bytes of all memories of one guest.
    pub memory: usize,
    /// Time that one batch, a model's load or a start may take.
    pub deadline: Duration,
    /// Windows that go to the guest in one call.
    pub batch: usize,
    /// Verdicts that are kept for windows seen before, per plugin (about 1 KiB each).
    pub cached_verdicts: usize,
    /// Calls that wait for one plugin before callers wait too.
    pub queue: usize,
    /// Failures in a row that quarantine a plugin.
    pub failures: u32,
    /// Failures and refusals within a minute that do, whatever went well between them.
    pub failures_in_a_minute: u32,
    /// Wait after the second failure in a row; doubled by each further one.
    pub backoff: Duration,
    /// Where compiled components are kept; compiled anew at every start without it. What lies
    /// there is run as machine code, so the folder must be writable for this user only.
    pub compiled: Option<PathBuf>,
}

impl Default for HostConfig {
    fn default() -> Self {
        HostConfig {
            memory: 64 << 20,
            deadline: Duration::from_millis(500),
            batch: 64,
            cached_verdicts: 4096,
            queue: 64,
            failures: 5,
            failures_in_a_minute: 20,
            backoff: Duration::from_millis(100),
            compiled: None,
        }
    }
}
