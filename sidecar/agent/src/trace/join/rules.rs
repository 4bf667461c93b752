//! From a thread's requests to the span that a call happened under.

use crate::diagnosis::report::AffectedCall;

use super::threads::ThreadSpans;
use super::timeline::{Incoming, Outgoing, Timeline};
use super::{Context, MAX_LINKS, Source, SpanContext};
use crate::record::SpanSource;

/// Calls from a request's sending to its answer, or to when there is none yet.
const EXCHANGE: &str = "exchange:";
/// One of these that is under way: at its end the thread may work for anybody.
const NO_ANSWER: &str = "exchange:no_answer";
/// These send: on a connection that threads share, for whoever makes them.
const SENDS: [&str; 5] = ["write:", "writev:", "sendto:", "sendmsg:", "sendmmsg:"];
const ACCEPTS: [&str; 2] = ["accept:", "accept4:"];
/// These are made on a fresh socket.
const CONNECT: &str = "connect:";

/// The call takes a connection in, whatever requests are open meanwhile.
pub(super) fn accepts(call: &AffectedCall) -> bool {
    ACCEPTS
        .iter()
        .any(|accepts| call.token.starts_with(accepts))
}

/// The span that the call's thread worked for, as published. An exchange was begun under one, too, and
/// may have no end yet. None where nothing was published.
pub(super) fn published(
    spans: &ThreadSpans,
    call: &AffectedCall,
    by_requests: impl FnOnce() -> Context,
) -> Option<Context> {
    let key = (call.pid, call.tid);
    let at = |at_ns| spans.at(key, at_ns).flatten();
    let begun = call.token.starts_with(EXCHANGE).then(|| at(call.start_ns));
    let begun = begun.flatten();
    let ended = (call.token != NO_ANSWER).then(|| at(call.end_ns)).flatten();
    let (span, source) = match (begun, ended) {
        (Some(begun), Some(ended)) if begun.0.trace_id != ended.0.trace_id => {
            let links = vec![begun.0, ended.0];
            let reason = "the answer was read under another span than the request was sent under";
            return Some(Context::linked(links, source_of(begun.1), reason));
        }
        (Some(one), _) | (None, Some(one)) => one,
        (None, None) => return None,
    };
    let reason = "the span that the thread published";
    match source {
        SpanSource::Thread => Some(Context {
            source: Source::ThreadContext,
            ..Context::own(span, 0.99, reason)
        }),
        SpanSource::Obi => Some(with_flags(span, by_requests())),
    }
}

/// A span of which it is not known whether it is sampled is a parent only if a request of its trace says so.
fn with_flags(span: SpanContext, seen: Context) -> Context {
    let of_trace = |other: &&SpanContext| other.trace_id == span.trace_id;
    let mut requests = seen.parent.iter().chain(&seen.links).filter(of_trace);
    match requests.next() {
        Some(request) => Context {
            source: Source::Obi,
            ..Context::own(
                SpanContext {
                    flags: request.flags,
                    ..span
                },
                0.9,
                "the span that eBPF instrumentation has for the thread",
            )
        },
        None => Context::linked(
            vec![span],
            Source::Obi,
            "eBPF instrumentation does not say whether its span is sampled",
        ),
    }
}

fn source_of(source: SpanSource) -> Source {
    match source {
        SpanSource::Thread => Source::ThreadContext,
        SpanSource::Obi => Source::Obi,
    }
}

/// The requests that the call's thread was serving. What a socket that connects was before is over.
pub(super) fn served<'a>(timeline: &'a Timeline, call: &AffectedCall) -> Vec<&'a Incoming> {
    let mut open = timeline.open_at(call.start_ns);
    open.retain(|i| !(call.token.starts_with(CONNECT) && i.line.0 == call.fd));
    open
}

/// The application's own span: the outgoing request that the call is part of.
pub(super) fn own_span(
    timeline: &Timeline,
    others: &[&Timeline],
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
        o.ended_before(call.start_ns) || (o.line.0 == call.fd && call.token.starts_with(CONNECT))
    };
    let on_same = timeline
        .sent_between(since, call.end_ns)
        .rfind(|o| o.line.0 == call.fd)
        .filter(|o| !over(o));
    if let Some(shared) = shared(timeline, others, call, on_same) {
        return Some(shared);
    }
    if let Some(sent) = on_same {
        let parent = sent.context?;
        // A proxy hands on what it was given.
        if open.iter().any(|i| i.context == Some(parent)) {
            return Some(Context::caller(
                parent,
                0.9,
                "the request that this outgoing one hands on",
            ));
        }
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
    if let Some(asked) = asked_elsewhere(others, call) {
        return Some(asked);
    }
    if open.len() > 1 || migrates || timeline.has_forgotten(call.start_ns) {
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

/// What is known of a call on a connection with streams without an answer, other than `last`, the last that its
/// own thread sent there.
fn shared(
    timeline: &Timeline,
    others: &[&Timeline],
    call: &AffectedCall,
    last: Option<&Outgoing>,
) -> Option<Context> {
    if call.token.starts_with(CONNECT) {
        return None;
    }
    let unanswered = |timeline| Timeline::unanswered_on(timeline, call.fd, call.start_ns);
    let elsewhere = others
        .iter()
        .any(|other| unanswered(other).next().is_some());
    let all = unanswered(timeline).chain(others.iter().flat_map(|other| unanswered(other)));
    let mut all: Vec<&Outgoing> = all.collect();
    if all.is_empty() {
        return None;
    }
    let waiting = all.len();
    // Its answer may still be read.
    all.extend(last.filter(|last| all.iter().all(|o| o.line != last.line)));
    let sends = SENDS.iter().any(|sends| call.token.starts_with(sends));
    let reason = match (all.len(), elsewhere) {
        (1, true) if sends => "another thread has a request on this connection",
        (1, _) => return None,
        _ if waiting > 1 => "several requests were under way on this connection",
        _ if last.is_some_and(|last| !last.answered_before(call.start_ns)) => return None,
        _ => {
            "one request was under way on this connection, and the answer of another may have been read"
        }
    };
    let links = all.iter().filter_map(|o| o.context).take(MAX_LINKS);
    Some(Context::linked(
        links.collect(),
        Source::OutgoingTraceparent,
        reason,
    ))
}

fn linked(open: &[&Incoming], reason: &'static str) -> Context {
    let contexts = open.iter().filter_map(|i| i.context);
    let links: Vec<SpanContext> = contexts.take(MAX_LINKS).collect();
    Context::linked(links, Source::IncomingTraceparent, reason)
}

/// Requests that the process was serving, where the thread says nothing of whose call it is: those that
/// this thread has open, and those of the others.
pub(super) fn of_process<'a>(
    mut open: Vec<&'a Incoming>,
    others: &[&'a Timeline],
    call: &AffectedCall,
    migrates: bool,
) -> Context {
    open.extend(others.iter().flat_map(|timeline| served(timeline, call)));
    open.sort_unstable_by_key(|i| (i.opened_ns, i.line));
    match open.as_slice() {
        [] => Context::none("no request was open in this process"),
        all if all.len() > MAX_LINKS => {
            Context::none("more requests were open in this process than are linked")
        }
        all if migrates => linked(all, "this process moves requests between threads"),
        all => linked(all, "this process hands work to other threads"),
    }
}

/// What another thread of the process asked on the call's descriptor and has no answer to.
fn asked_elsewhere(others: &[&Timeline], call: &AffectedCall) -> Option<Context> {
    if call.fd < 0 || call.token.starts_with(CONNECT) {
        return None;
    }
    let asked = others
        .iter()
        .flat_map(|timeline| timeline.asked_on(call.fd, call.start_ns, call.end_ns));
    let asked: Vec<&Outgoing> = asked.collect();
    let source = Source::OutgoingTraceparent;
    if asked.iter().filter(|o| o.line.1 != 0).count() > 1 {
        let links = asked.iter().filter_map(|o| o.context);
        let links = links.take(MAX_LINKS).collect();
        let reason = "several requests were under way on this connection";
        return Some(Context::linked(links, source, reason));
    }
    let parent = asked.into_iter().max_by_key(|o| o.sent_ns)?.context?;
    let mut served = others.iter().flat_map(|timeline| served(timeline, call));
    Some(match served.any(|i| i.context == Some(parent)) {
        true => Context::caller(parent, 0.9, "the request that this outgoing one hands on"),
        false => Context::own(
            parent,
            0.95,
            "the call is part of a request that another thread sent",
        ),
    })
}

/// The caller's span: the one request that the thread has open.
pub(super) fn callers_span(
    timeline: &Timeline,
    call: &AffectedCall,
    open: &[&Incoming],
) -> Context {
    let linked = |reason| linked(open, reason);
    let on_same: Vec<_> = open.iter().filter(|i| i.line.0 == call.fd).collect();
    match (open, on_same.as_slice()) {
        ([], _) if timeline.has_incoming(call.start_ns) => Context::none("outside any request"),
        ([], _) => Context::none("no incoming request was seen on this thread"),
        ([only], _) if only.doubtful => linked("requests on the connection may be pipelined"),
        ([_], []) if timeline.has_forgotten(call.start_ns) => {
            linked("more requests were open on this thread than are kept")
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
