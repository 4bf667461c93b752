//! From a thread's requests to the span that a call happened under.

use crate::diagnosis::report::AffectedCall;

use super::timeline::{Incoming, Outgoing, Timeline};
use super::{Context, MAX_LINKS, Source, SpanContext};

/// The application's own span: the outgoing request that the call is part of.
pub(super) fn own_span(
    timeline: &Timeline,
    call: &AffectedCall,
    open: &[&Incoming],
    migrates: bool,
) -> Option<Context> {
    let since = match open {
        [] => timeline.outside_since(call.start_ns),
        [only] => only.opened_ns,
        _ => timeline.oldest_asked(call.start_ns),
    };
    // A connect is made on a fresh socket: what was sent on that number before is over.
    let over = |o: &Outgoing| {
        o.ended_before(call.start_ns) || (o.fd == call.fd && call.token.starts_with("connect:"))
    };
    let on_same = timeline
        .sent_between(since, call.end_ns)
        .rfind(|o| o.fd == call.fd);
    if let Some(sent) = on_same.filter(|o| !over(o)) {
        let parent = sent.context?;
        return match open {
            _ if !sent.answered_before(call.start_ns) => Some(Context::own(
                parent,
                0.95,
                "the call is part of this outgoing request",
            )),
            [only] if !timeline.interleaves(only) => {
                Some(Context::own(parent, 0.8, "the answer was still being read"))
            }
            [] => Some(Context::linked(
                vec![parent],
                Source::OutgoingTraceparent,
                "the last outgoing request on this descriptor was answered",
            )),
            _ => None,
        };
    }
    if open.len() > 1 || migrates {
        return None;
    }
    let latest = timeline.sent_between(since, call.start_ns).next_back()?;
    // Sent while other requests were open too: it may have been for one of those.
    if timeline.open_at(latest.sent_ns).len() > 1 {
        return None;
    }
    let parent = latest.context?;
    match open {
        _ if over(latest) || latest.answered_before(call.start_ns) => match open {
            [only] if only.context.is_none() => Some(Context::own(
                parent,
                0.5,
                "the request's last outgoing span, which has ended",
            )),
            _ => None,
        },
        [_] => Some(Context::own(
            parent,
            0.8,
            "an outgoing request was under way",
        )),
        [] if timeline.sends_overlap() => Some(Context::linked(
            vec![parent],
            Source::OutgoingTraceparent,
            "this thread has several outgoing requests under way at once",
        )),
        _ => Some(Context::own(
            parent,
            0.6,
            "an outgoing request was under way",
        )),
    }
}

/// The caller's span: the one request that the thread has open.
pub(super) fn callers_span(
    timeline: &Timeline,
    call: &AffectedCall,
    open: &[&Incoming],
    migrates: bool,
) -> Context {
    let contexts = || {
        open.iter()
            .filter_map(|i| i.context)
            .take(MAX_LINKS)
            .collect::<Vec<SpanContext>>()
    };
    let linked = |reason| Context::linked(contexts(), Source::IncomingTraceparent, reason);
    let on_same: Vec<_> = open.iter().filter(|i| i.fd == call.fd).collect();
    match (open, on_same.as_slice()) {
        ([], _) if timeline.has_incoming(call.start_ns) => Context::none("outside any request"),
        ([], _) => Context::none("no incoming request was seen on this thread"),
        ([only], _) if only.doubtful => linked("requests on the connection may be pipelined"),
        ([only], _) if migrates && only.fd != call.fd => {
            linked("this process moves requests between threads")
        }
        ([only], _) => match only.context {
            Some(parent) if timeline.interleaves(only) => {
                Context::caller(parent, 0.7, "the only request open on an event loop")
            }
            Some(parent) => Context::caller(parent, 0.9, "the request that the thread was serving"),
            None => Context::none("the request carries no valid traceparent"),
        },
        (_, [same]) if !same.doubtful && same.context.is_some() => match same.context {
            Some(parent) => Context::caller(parent, 0.8, "the request on this descriptor"),
            None => Context::none("the request carries no valid traceparent"),
        },
        _ => linked("several requests were open on this thread"),
    }
}
