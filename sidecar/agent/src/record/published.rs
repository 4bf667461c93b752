//! What processes publish about themselves, or another program on the node about them.

use serde::{Deserialize, Serialize};

use super::{ContainerIndex, Nanos, TraceParent};

/// The span that a thread works for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ThreadSpan {
    /// The return of the call at which it was read.
    pub at_ns: Nanos,
    pub container: ContainerIndex,
    pub pid: u32,
    pub tid: u32,
    /// None: no span.
    pub span: Option<TraceParent>,
    pub source: SpanSource,
    /// It holds until the thread's next such record; otherwise for this call alone.
    pub continues: bool,
    /// Changes of this thread that were lost so far.
    pub lost: u32,
}

/// Who says which span a thread works for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpanSource {
    /// The thread's process (OTEP 4947).
    Thread,
    /// OpenTelemetry's eBPF instrumentation (OBI), which tells no flags.
    Obi,
}

/// The resource that a process publishes (OTEP 4719).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessResource {
    pub at_ns: Nanos,
    pub container: ContainerIndex,
    pub pid: u32,
    /// Attributes; the values as text.
    pub attributes: Vec<(String, String)>,
}
