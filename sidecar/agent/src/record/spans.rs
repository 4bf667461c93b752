//! Spans that applications send themselves.

use serde::{Deserialize, Serialize};

use super::{Nanos, TraceParent};

/// A span that an application sent through the pass-through.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OwnSpan {
    /// When it came.
    pub at_ns: Nanos,
    pub span: TraceParent,
    /// Span id of its parent, in the same trace.
    pub parent: Option<[u8; 8]>,
    /// It answers a request, or works on a message.
    pub serves: bool,
    pub start_ns: Nanos,
    pub end_ns: Nanos,
}
