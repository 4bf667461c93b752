//! How an operator talks to a running sidecar: one line of JSON each way over a unix socket in its
//! state directory, which its own user (and root) may use.

mod client;
mod server;
#[cfg(test)]
mod tests;

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use client::ask;
pub use server::{Command, Control};

/// Bytes of a request and of an answer, with their line feeds.
const LONGEST_REQUEST: usize = 4096;
const LONGEST_ANSWER: usize = 1 << 16;
/// Time that the sidecar has for one request, and that the asking side waits.
const ANSWERED_WITHIN: Duration = Duration::from_secs(8);
const WAITED_FOR: Duration = Duration::from_secs(10);

/// What an operator says. `id` may be the beginning of an incident's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// The incident is normal.
    Accept { id: String },
    /// Nothing more about the incident for so many seconds.
    Mute { id: String, seconds: u64 },
}

/// One sentence for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Done(String),
    Refused(String),
}

/// Why a sidecar cannot be talked to.
#[derive(Debug, Error)]
pub enum ControlError {
    #[error("no sidecar at {0}: is `stethos run` running with this state directory?")]
    Nobody(PathBuf),
    #[error("the sidecar that listened at {0} is gone")]
    Gone(PathBuf),
    #[error("{0}: another sidecar with this state directory listens there")]
    Taken(PathBuf),
    #[error("{0} is there and no socket")]
    NoSocket(PathBuf),
    #[error("{0}: no answer within {1:?}")]
    Late(PathBuf, Duration),
    #[error("{path}: what answers is no sidecar of this version: {reason}")]
    Foreign { path: PathBuf, reason: String },
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// Where the sidecar with this state directory listens.
pub fn socket(state_dir: &Path) -> PathBuf {
    state_dir.join("control.sock")
}
