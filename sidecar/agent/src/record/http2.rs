//! Heads of HTTP/2 messages.

use serde::{Deserialize, Serialize};

use super::{ContainerIndex, Direction, Nanos, TraceParent};

/// Heads in the first bytes of one read or write of a connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Http2Heads {
    /// When the read or write returned.
    pub at_ns: Nanos,
    pub container: ContainerIndex,
    pub pid: u32,
    pub tid: u32,
    pub fd: i32,
    pub direction: Direction,
    pub heads: Vec<Http2Head>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Http2Head {
    /// Of the connection.
    pub stream: u32,
    pub message: Http2Message,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Http2Message {
    /// `traceparent`: none, too, where it is not known.
    Request {
        traceparent: Option<TraceParent>,
    },
    Response,
}
