//! What is known of the span that a call happened under.

use crate::trace::SpanContext;

/// Whose span the parent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParentKind {
    /// A span of the diagnosed application.
    Own,
    /// The span of whoever called the diagnosed application.
    Caller,
}

/// The rung that answered: `stethos.trace.source`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Source {
    OutgoingTraceparent,
    IncomingTraceparent,
    /// A span that the application sent through the pass-through, found by its caller's.
    OtlpPassthrough,
    /// The thread's own record of the span that it works for (OTEP 4947).
    ThreadContext,
    /// The map that OpenTelemetry's eBPF instrumentation shares.
    Obi,
    #[default]
    None,
}

impl Source {
    pub fn as_str(self) -> &'static str {
        match self {
            Source::OutgoingTraceparent => "outgoing_traceparent",
            Source::IncomingTraceparent => "incoming_traceparent",
            Source::OtlpPassthrough => "otlp_passthrough",
            Source::ThreadContext => "thread_context",
            Source::Obi => "obi",
            Source::None => "none",
        }
    }
}

/// The trace context of an affected call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Context {
    /// The one span that the call happened under, sampled or not.
    pub parent: Option<SpanContext>,
    pub kind: Option<ParentKind>,
    /// Spans that the call may belong to, when no single one is certain.
    pub links: Vec<SpanContext>,
    pub source: Source,
    /// 0…1: how sure the parent (or, without one, the set of links) is.
    pub confidence: f64,
    /// Why this context, or why none; for people.
    pub reason: &'static str,
}

impl Context {
    /// No context, and why.
    pub fn none(reason: &'static str) -> Self {
        Context {
            reason,
            ..Context::default()
        }
    }

    pub(super) fn own(parent: SpanContext, confidence: f64, reason: &'static str) -> Self {
        Context {
            parent: Some(parent),
            kind: Some(ParentKind::Own),
            source: Source::OutgoingTraceparent,
            confidence,
            reason,
            links: Vec::new(),
        }
    }

    pub(super) fn caller(parent: SpanContext, confidence: f64, reason: &'static str) -> Self {
        Context {
            kind: Some(ParentKind::Caller),
            source: Source::IncomingTraceparent,
            ..Context::own(parent, confidence, reason)
        }
    }

    pub(super) fn linked(links: Vec<SpanContext>, source: Source, reason: &'static str) -> Self {
        if links.is_empty() {
            return Context::none(reason);
        }
        Context {
            links,
            source,
            confidence: 0.3,
            reason,
            ..Context::default()
        }
    }
}
