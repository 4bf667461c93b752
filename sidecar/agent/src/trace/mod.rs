//! Trace context from what processes publish (rungs 1 and 3 of the ladder), from W3C `traceparent` in plain HTTP
//! (rung 4), and from spans that applications send through the pass-through (rung 5): what the head of a message
//! says ([`http`], [`http2`]), and which request an affected call belongs to ([`join`]).

pub mod http;
pub mod http2;
pub mod join;

pub use join::{Context, Join, JoinConfig, ParentKind, Source};

/// A span that another process or the application itself made known.
pub type SpanContext = crate::record::TraceParent;

/// `trace_flags` bit: the caller recorded the span.
const SAMPLED: u8 = 1;

impl SpanContext {
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }
}
