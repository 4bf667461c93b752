//! Spans: one per affected request, one at confirmation, one for the whole incident.
//!
//! Calls of one request are merged while its span is pending. Time is the records'.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use opentelemetry::trace::{Link, SpanContext as OtelContext, SpanKind, Status, TraceState};
use opentelemetry::{KeyValue, SpanId, TraceFlags, TraceId};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::diagnosis::report::{self, AffectedCall, Diagnosis, IncidentState, Report};
use crate::record::Nanos;
use crate::trace::{Context, SpanContext};

use super::attributes::{self, Attributes, MAX_TEXT, Value};
use super::config::Limits;
use super::resource::Resource;
use super::{Published, scope};

const SECOND: Nanos = 1_000_000_000;
/// A request's span waits this long for more of its affected calls.
const MERGE: Nanos = 2 * SECOND;
const MAX_INCIDENTS: usize = 1024;
/// Requests of one incident that are remembered as having their span.
const MAX_REQUESTS: usize = 4096;

#[derive(Debug)]
pub(super) struct SpanItem {
    pub(super) resource: Arc<Resource>,
    pub(super) span: SpanData,
}

/// What tells one affected request from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Request {
    Under(SpanContext),
    /// No context: whatever the thread does is one request while its span is pending.
    Thread(u32, u32),
}

#[derive(Debug)]
struct Pending {
    request: Request,
    published: Published,
    call: AffectedCall,
    since: Nanos,
}

#[derive(Debug)]
struct Incident {
    latest: Published,
    pending: Vec<Pending>,
    exported: HashSet<Request>,
    links: SpanLinks,
    confirmed: bool,
    minute: Nanos,
    in_minute: u32,
    withheld: u64,
}

#[derive(Debug)]
pub(super) struct Assembler {
    limits: Limits,
    per_minute: u32,
    now: Nanos,
    incidents: HashMap<String, Incident>,
    order: VecDeque<String>,
    ready: Vec<SpanItem>,
    withheld: u64,
}

impl Assembler {
    pub(super) fn new(limits: Limits, per_minute: u32) -> Self {
        Assembler {
            limits,
            per_minute,
            now: 0,
            incidents: HashMap::new(),
            order: VecDeque::new(),
            ready: Vec::new(),
            withheld: 0,
        }
    }

    pub(super) fn withheld(&self) -> u64 {
        self.withheld
    }

    pub(super) fn drain(&mut self) -> Vec<SpanItem> {
        std::mem::take(&mut self.ready)
    }

    pub(super) fn on_diagnosis(&mut self, published: &Published, diagnosis: &Diagnosis) {
        self.tick(diagnosis.observed_ns);
        let id = &diagnosis.incident_id;
        if !self.incidents.contains_key(id) {
            self.make_room();
            self.order.push_back(id.clone());
        }
        let entry = self.incidents.entry(id.clone());
        let incident = entry.or_insert_with(|| Incident::new(published.clone()));
        incident.latest = published.clone();
        // It may be confirmed before any of its affected calls comes.
        incident.link(&published.context, self.limits.links);
        match diagnosis.state {
            IncidentState::Suspected => {}
            IncidentState::Confirmed => {
                flush(incident, self.limits, |_| true, &mut self.ready);
                if !std::mem::replace(&mut incident.confirmed, true) {
                    self.ready
                        .push(confirmed_span(incident, diagnosis, self.limits));
                }
            }
            IncidentState::Resolved => {
                flush(incident, self.limits, |_| true, &mut self.ready);
                self.ready
                    .push(incident_span(incident, diagnosis, self.limits));
                self.incidents.remove(id);
                self.order.retain(|other| other != id);
            }
        }
    }

    pub(super) fn on_affected(&mut self, published: &Published, call: &AffectedCall) {
        self.tick(call.end_ns);
        let Some(incident) = self.incidents.get_mut(&call.incident_id) else {
            self.withheld += 1;
            return;
        };
        let request = match published.context.parent {
            Some(parent) => Request::Under(parent),
            None => Request::Thread(call.pid, call.tid),
        };
        if let Some(open) = incident.pending.iter_mut().find(|p| p.request == request) {
            open.call.start_ns = open.call.start_ns.min(call.start_ns);
            open.call.end_ns = open.call.end_ns.max(call.end_ns);
            return;
        }
        if incident.exported.contains(&request) {
            return;
        }
        if self.now >= incident.minute.saturating_add(60 * SECOND) {
            (incident.minute, incident.in_minute) = (self.now, 0);
        }
        if incident.in_minute >= self.per_minute || incident.exported.len() >= MAX_REQUESTS {
            incident.withheld += 1;
            self.withheld += 1;
            return;
        }
        incident.in_minute += 1;
        if matches!(request, Request::Under(_)) {
            incident.exported.insert(request.clone());
        }
        incident.link(&published.context, self.limits.links);
        let (published, call) = (published.clone(), call.clone());
        incident.pending.push(Pending {
            request,
            published,
            call,
            since: self.now,
        });
    }

    /// Record time goes on: spans that waited long enough are ready.
    pub(super) fn tick(&mut self, now: Nanos) {
        self.now = self.now.max(now);
        let due = |p: &Pending| p.since.saturating_add(MERGE) <= self.now;
        for incident in self
            .incidents
            .values_mut()
            .filter(|i| !i.pending.is_empty())
        {
            flush(incident, self.limits, due, &mut self.ready);
        }
    }

    fn make_room(&mut self) {
        if self.order.len() < MAX_INCIDENTS {
            return;
        }
        let oldest = self.order.pop_front();
        if let Some(mut incident) = oldest.and_then(|id| self.incidents.remove(&id)) {
            flush(&mut incident, self.limits, |_| true, &mut self.ready);
        }
    }
}

impl Incident {
    fn new(latest: Published) -> Self {
        Incident {
            latest,
            pending: Vec::new(),
            exported: HashSet::new(),
            links: SpanLinks::default(),
            confirmed: false,
            minute: 0,
            in_minute: 0,
            withheld: 0,
        }
    }

    /// One that did not fit counts whenever it comes.
    fn link(&mut self, context: &Context, bound: usize) {
        for span in context.parent.iter().chain(&context.links) {
            let (link, links) = (remote_link(span), &mut self.links);
            if links.links.contains(&link) {
                continue;
            }
            match links.links.len() < bound {
                true => links.links.push(link),
                false => links.dropped_count += 1,
            }
        }
    }

    fn diagnosis(&self) -> Option<&Diagnosis> {
        match &self.latest.report {
            Report::Diagnosis(diagnosis) => Some(diagnosis),
            Report::Affected(_) => None,
        }
    }
}

/// Turns the pending requests that are `due` into spans.
fn flush(
    incident: &mut Incident,
    limits: Limits,
    due: impl Fn(&Pending) -> bool,
    ready: &mut Vec<SpanItem>,
) {
    let (done, waiting) = std::mem::take(&mut incident.pending)
        .into_iter()
        .partition(due);
    incident.pending = waiting;
    let done: Vec<Pending> = done;
    for pending in done {
        if let Some(diagnosis) = incident.diagnosis() {
            ready.push(request_span(&incident.latest, diagnosis, &pending, limits));
        }
    }
}

/// A child of the one sampled parent, or a new root that links to what may be its trace.
fn request_span(
    latest: &Published,
    diagnosis: &Diagnosis,
    pending: &Pending,
    limits: Limits,
) -> SpanItem {
    let (context, call) = (&pending.published.context, &pending.call);
    let mut all = attributes::of_diagnosis(latest, diagnosis, context);
    attributes::overlay(
        &mut all,
        vec![
            ("process.pid", Value::Int(i64::from(call.pid))),
            ("thread.id", Value::Int(i64::from(call.tid))),
            ("stethos.fault.call", attributes::text(&call.token)),
        ],
    );
    let name = format!("stethos.fault {}", report::name(diagnosis.class));
    let mut span = base_span(name, diagnosis, all, limits);
    set_interval(&mut span, latest, call.start_ns, call.end_ns);
    match context.parent {
        Some(parent) if parent.is_sampled() => {
            let trace_id = TraceId::from_bytes(parent.trace_id);
            span.span_context = new_context(trace_id, TraceFlags::new(parent.flags));
            span.parent_span_id = SpanId::from_bytes(parent.span_id);
            span.parent_span_is_remote = true;
        }
        _ => {
            let spans = context.parent.iter().chain(&context.links);
            let mut links: Vec<_> = spans.map(remote_link).collect();
            let dropped = links.len().saturating_sub(limits.links);
            links.truncate(limits.links);
            span.links.links = links;
            span.links.dropped_count = u32::try_from(dropped).unwrap_or(u32::MAX);
        }
    }
    SpanItem {
        resource: Arc::clone(&pending.published.resource),
        span,
    }
}

/// Makes an open incident visible: the shortest root at its confirmation.
fn confirmed_span(incident: &Incident, diagnosis: &Diagnosis, limits: Limits) -> SpanItem {
    let name = format!("stethos.fault.confirmed {}", report::name(diagnosis.class));
    let mut span = linked_root(incident, diagnosis, name, limits);
    let at = diagnosis.observed_ns;
    set_interval(&mut span, &incident.latest, at, at);
    SpanItem {
        resource: Arc::clone(&incident.latest.resource),
        span,
    }
}

/// The whole incident, at its close.
fn incident_span(incident: &Incident, diagnosis: &Diagnosis, limits: Limits) -> SpanItem {
    let name = format!("stethos.incident {}", report::name(diagnosis.class));
    let mut span = linked_root(incident, diagnosis, name, limits);
    let end = diagnosis.ended_ns.unwrap_or(diagnosis.observed_ns);
    set_interval(&mut span, &incident.latest, diagnosis.onset_ns, end);
    SpanItem {
        resource: Arc::clone(&incident.latest.resource),
        span,
    }
}

fn linked_root(
    incident: &Incident,
    diagnosis: &Diagnosis,
    name: String,
    limits: Limits,
) -> SpanData {
    let latest = &incident.latest;
    let mut all = attributes::of_diagnosis(latest, diagnosis, &latest.context);
    let count = |n: u64| Value::Int(i64::try_from(n).unwrap_or(i64::MAX));
    all.push((
        "stethos.incident.affected_calls",
        count(diagnosis.affected_calls),
    ));
    all.push(("stethos.incident.spans_withheld", count(incident.withheld)));
    let mut span = base_span(name, diagnosis, all, limits);
    span.links = incident.links.clone();
    span
}

/// Record time. A span that does not end after its start has a negative duration to Jaeger, which warns of it.
fn set_interval(span: &mut SpanData, published: &Published, start: Nanos, end: Nanos) {
    span.start_time = published.time(start);
    span.end_time = published.time(end.max(start.saturating_add(1)));
}

/// A root of a new trace; the caller sets times, and parent or links.
fn base_span(name: String, diagnosis: &Diagnosis, mut all: Attributes, limits: Limits) -> SpanData {
    all.insert(1, ("stethos.fault", Value::Bool(true)));
    let (attributes, dropped_attributes_count) = attributes::within(all, limits.span);
    let attributes = attributes.into_iter().map(|(k, v)| KeyValue::new(k, v));
    SpanData {
        span_context: new_context(TraceId::from(fastrand::u128(1..)), TraceFlags::SAMPLED),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: name.into(),
        start_time: UNIX_EPOCH,
        end_time: UNIX_EPOCH,
        attributes: attributes.collect(),
        dropped_attributes_count,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::error(attributes::cut(&diagnosis.message, MAX_TEXT)),
        instrumentation_scope: scope(),
    }
}

/// A new span's, in the given trace.
fn new_context(trace_id: TraceId, flags: TraceFlags) -> OtelContext {
    let span_id = SpanId::from(fastrand::u64(1..));
    OtelContext::new(trace_id, span_id, flags, false, TraceState::NONE)
}

fn remote_link(span: &SpanContext) -> Link {
    let trace_id = TraceId::from_bytes(span.trace_id);
    let span_id = SpanId::from_bytes(span.span_id);
    let flags = TraceFlags::new(span.flags);
    Link::with_context(OtelContext::new(
        trace_id,
        span_id,
        flags,
        true,
        TraceState::NONE,
    ))
}

#[cfg(test)]
#[path = "span/tests.rs"]
mod tests;
