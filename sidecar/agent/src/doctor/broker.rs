//! Whether a node broker answers.

use std::path::Path;

use serde::Serialize;

use crate::capture::broker::{client, protocol::VERSIONS};

/// What answers where a node broker would listen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Broker {
    /// The sidecar would use none.
    Off,
    Absent {
        socket: String,
    },
    Answers {
        socket: String,
        /// Versions of the protocol.
        speaks: String,
        record_version: u32,
        pinned: bool,
        pods_served: u32,
    },
    Refuses {
        socket: String,
        reason: String,
    },
}

pub(super) fn probe(socket: Option<&Path>) -> Broker {
    let Some(path) = socket else {
        return Broker::Off;
    };
    let socket = path.display().to_string();
    match client::status(path) {
        Ok((versions, status)) => Broker::Answers {
            socket,
            speaks: versions.to_string(),
            record_version: status.record_version,
            pinned: status.pinned,
            pods_served: status.pods_served,
        },
        Err(error) if error.is_absent() => Broker::Absent { socket },
        Err(error) => Broker::Refuses {
            socket,
            reason: format!("{error} (this sidecar speaks protocol {VERSIONS})"),
        },
    }
}
