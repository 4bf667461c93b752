//! Which request an affected call belongs to. Pure: driven by records, time is theirs.
//!
//! Per thread there is a timeline of incoming requests (a request head read on a descriptor opens
//! one, a response head written on the same descriptor closes it) and of outgoing requests. A
//! call belongs to an outgoing request's span (the application's own) when the exchange is that
//! request's, whichever thread sent it, otherwise to the one request that its thread has open (the
//! caller's span, or the one that the application sent for answering it). Anything less certain gives
//! links (where requests move between threads, to all that the process has open) or nothing: a context
//! is never guessed. What threads publish goes before all of that.

mod births;
mod config;
mod context;
mod kept;
mod own;
mod rules;
mod serving;
mod threads;
mod timeline;

use std::collections::{HashMap, HashSet, VecDeque};

use crate::diagnosis::report::AffectedCall;
use crate::record::{
    Direction, Http2Heads, Http2Message, HttpHead, HttpMessage, Lifecycle, LifecycleEvent, Nanos,
    Record, Reduced, ThreadsSnapshot,
};

use super::SpanContext;
use births::Births;
pub use births::Turning;
pub use config::JoinConfig;
pub use context::{Context, ParentKind, Source};
use own::OwnSpans;
use serving::Processes;
use threads::ThreadSpans;
use timeline::{Incoming, Line, Outgoing, Timeline};

const SECOND: Nanos = 1_000_000_000;
/// Heads of the same moment may come up to this much later in the stream of records.
const SETTLE: Nanos = SECOND / 10;
const MAX_LINKS: usize = 128;
/// An SDK sends its spans every five seconds, once they have ended.
const SENT_WITHIN: Nanos = 8 * SECOND;

/// The head of a message.
struct Seen {
    at_ns: Nanos,
    /// Process and thread.
    thread: (u32, u32),
    line: Line,
    direction: Direction,
}

/// Timelines of the threads seen so far.
#[derive(Debug)]
pub struct Join {
    config: JoinConfig,
    threads: HashMap<(u32, u32), Timeline>,
    /// Requests in the order in which they came, with their threads.
    order: VecDeque<(Nanos, (u32, u32))>,
    /// Which thread last sent or received a request on a descriptor of a process.
    owners: HashMap<(u32, i32), u32>,
    /// Descriptors on which several threads of a process have streams.
    shared: HashSet<(u32, i32)>,
    processes: Processes,
    /// Heads that found no place because `max_threads` timelines were in use.
    dropped_heads: u64,
    own: OwnSpans,
    spans: ThreadSpans,
    births: Births,
}

impl Join {
    pub fn new(config: JoinConfig) -> Self {
        Join {
            config,
            threads: HashMap::new(),
            order: VecDeque::new(),
            owners: HashMap::new(),
            shared: HashSet::new(),
            processes: Processes::default(),
            dropped_heads: 0,
            own: OwnSpans::default(),
            spans: ThreadSpans::default(),
            births: Births::default(),
        }
    }

    /// Heads not taken in because of the bound on threads.
    pub fn dropped_heads(&self) -> u64 {
        self.dropped_heads
    }

    /// When (by record time) the heads that matter to a call that ended at `end_ns` are in: ask
    /// [`Join::resolve`] once a record of this time or later was seen.
    pub fn resolve_after(end_ns: Nanos) -> Nanos {
        end_ns.saturating_add(SETTLE)
    }

    /// Takes what a record says of requests, spans, threads and descriptors; most say nothing.
    pub fn on_record(&mut self, record: &Record) {
        match record {
            Record::Http(head) => self.on_http(head),
            Record::Http2(heads) => self.on_http2(heads),
            Record::Closed(closed) => self.end_descriptor(closed.pid, closed.fd, closed.at_ns),
            Record::Span(span) => self.own.take(span),
            Record::ThreadSpan(span) => self.spans.take(span),
            Record::Reduced(reduced) => self.on_reduced(reduced),
            Record::Threads(snapshot) => self.on_threads(snapshot),
            Record::Window(window) => {
                let numbers = window.calls.iter().map(|call| call.nr);
                self.on_calls((window.pid, window.tid), numbers);
                let turning = &self.config.turning;
                self.births.on_window(window, turning, &self.threads);
            }
            Record::Lifecycle(lifecycle) => self.on_lifecycle(lifecycle),
            _ => {}
        }
    }

    fn on_reduced(&mut self, reduced: &Reduced) {
        match reduced.sample {
            0 => self.spans.resume(reduced.at_ns),
            _ => self.spans.cease(reduced.at_ns),
        }
    }

    /// Until when a call that ended at `end_ns` may yet be found to be the application's own span's, if
    /// `context` is what is known of it now.
    pub fn may_be_own_until(&self, context: &Context, end_ns: Nanos, now: Nanos) -> Option<Nanos> {
        let open = context.kind == Some(ParentKind::Caller) && self.own.are_expected(now);
        open.then(|| end_ns.saturating_add(SENT_WITHIN))
    }

    fn on_http(&mut self, head: &HttpHead) {
        let seen = Seen {
            at_ns: head.at_ns,
            thread: (head.pid, head.tid),
            line: (head.fd, 0),
            direction: head.direction,
        };
        match &head.message {
            HttpMessage::Request { traceparent, .. } => self.on_request(&seen, *traceparent),
            // An interim response; the final one follows.
            HttpMessage::Response {
                status: 100 | 102..=199,
            } => {}
            HttpMessage::Response { .. } => self.on_response(&seen),
        }
    }

    fn on_http2(&mut self, heads: &Http2Heads) {
        for head in &heads.heads {
            let seen = Seen {
                at_ns: heads.at_ns,
                thread: (heads.pid, heads.tid),
                line: (heads.fd, head.stream),
                direction: heads.direction,
            };
            match head.message {
                Http2Message::Request { traceparent } => self.on_request(&seen, traceparent),
                Http2Message::Response => self.on_response(&seen),
            }
        }
    }

    fn on_request(&mut self, seen: &Seen, context: Option<SpanContext>) {
        let (line, at_ns) = (seen.line, seen.at_ns);
        let Some(timeline) = self.timeline(seen) else {
            return;
        };
        match seen.direction {
            Direction::Incoming => timeline.open(Incoming::new(line, at_ns, context)),
            Direction::Outgoing => timeline.send(Outgoing::new(line, at_ns, context)),
        }
        if let (Direction::Outgoing, Some(context)) = (seen.direction, context) {
            self.births.sent(seen.thread, line, at_ns, context);
        }
        self.order.push_back((at_ns, seen.thread));
        while self.order.len() > self.config.max_total {
            let Some((until_ns, key)) = self.order.pop_front() else {
                break;
            };
            if let Some(timeline) = self.threads.get_mut(&key) {
                timeline.drop_until(until_ns);
            }
        }
    }

    /// The thread made calls of these numbers, or is inside them.
    fn on_calls(&mut self, thread: (u32, u32), numbers: impl IntoIterator<Item = u16>) {
        let waits = &self.config.event_loop;
        let waits = numbers.into_iter().any(|number| waits.contains(&number));
        self.processes.of(thread.0).look(thread.1, waits);
    }

    fn on_threads(&mut self, snapshot: &ThreadsSnapshot) {
        for thread in &snapshot.threads {
            if let Some(inside) = thread.inside {
                self.on_calls((thread.pid, thread.tid), [inside.nr]);
            }
        }
    }

    /// Ends what the descriptor's owner, or whoever shares it, did on it up to then.
    fn end_descriptor(&mut self, pid: u32, fd: i32, at_ns: Nanos) {
        if self.shared.remove(&(pid, fd)) {
            let of_process = self.threads.iter_mut().filter(|(key, _)| key.0 == pid);
            of_process.for_each(|(_, timeline)| timeline.end_descriptor(fd, at_ns));
            return;
        }
        let owner = self.owners.get(&(pid, fd));
        let timeline = owner.and_then(|tid| self.threads.get_mut(&(pid, *tid)));
        if let Some(timeline) = timeline {
            timeline.end_descriptor(fd, at_ns);
        }
    }

    fn on_lifecycle(&mut self, lifecycle: &Lifecycle) {
        let at = lifecycle.at_ns;
        match &lifecycle.event {
            LifecycleEvent::Exit {
                group_dead: false, ..
            } => {
                self.end_thread((lifecycle.pid, lifecycle.tid), at);
            }
            LifecycleEvent::Exit {
                group_dead: true, ..
            }
            | LifecycleEvent::Exec { .. } => {
                for (key, timeline) in &mut self.threads {
                    if key.0 == lifecycle.pid {
                        timeline.end_all(at);
                    }
                }
                self.spans.end_process(lifecycle.pid, at);
                // What is asked about a process that ended is asked afterwards.
                if matches!(lifecycle.event, LifecycleEvent::Exec { .. }) {
                    self.forget_process(lifecycle.pid);
                }
                self.owners.retain(|(pid, _), _| *pid != lifecycle.pid);
                self.shared.retain(|(pid, _)| *pid != lifecycle.pid);
            }
            LifecycleEvent::Fork {
                child_pid,
                child_tid,
            } => {
                self.end_thread((*child_pid, *child_tid), at);
                if *child_pid != lifecycle.pid {
                    self.forget_process(*child_pid);
                }
            }
            LifecycleEvent::OomKill => {}
        }
    }

    /// The id is another process's, or the process executes another program.
    fn forget_process(&mut self, pid: u32) {
        self.processes.forget(pid);
        self.births.forget(pid);
    }

    fn end_thread(&mut self, key: (u32, u32), at_ns: Nanos) {
        self.spans.end_thread(key, at_ns);
        self.births.end_thread(key);
        if let Some(timeline) = self.threads.get_mut(&key) {
            timeline.end_all(at_ns);
        }
    }

    fn on_response(&mut self, seen: &Seen) {
        let answer =
            |timeline: &mut Timeline| timeline.answer(seen.direction, seen.line, seen.at_ns);
        let pid = seen.thread.0;
        if self.threads.get_mut(&seen.thread).is_some_and(answer) {
            if seen.direction == Direction::Outgoing {
                self.processes.of(pid).answer(seen.line);
            }
            return;
        }
        let Some(tid) = self.owners.get(&(pid, seen.line.0)) else {
            // Nobody asked anything on this descriptor: it may be another one of the connection.
            let own = self.threads.get_mut(&seen.thread);
            if let (Some(timeline), Direction::Outgoing) = (own, seen.direction)
                && timeline.close_only(seen.at_ns)
            {
                self.processes.of(pid).answer(seen.line);
            }
            return;
        };
        let answered = match self.shared.contains(&(pid, seen.line.0)) {
            true => {
                let mut of_process = self.threads.iter_mut().filter(|(key, _)| key.0 == pid);
                of_process.any(|(_, timeline)| answer(timeline))
            }
            false => self.threads.get_mut(&(pid, *tid)).is_some_and(answer),
        };
        if answered {
            self.processes.of(pid).migrates = true;
        }
    }

    /// The thread's timeline, made if there is room.
    fn timeline(&mut self, seen: &Seen) -> Option<&mut Timeline> {
        let (key, at_ns) = (seen.thread, seen.at_ns);
        let connection = (key.0, seen.line.0);
        if !self.threads.contains_key(&key) && self.threads.len() >= self.config.max_threads {
            self.forget_idle(at_ns);
            if self.threads.len() >= self.config.max_threads {
                self.dropped_heads += 1;
                return None;
            }
        }
        // Another thread goes on with the descriptor: what this one's owner had open on it is over, unless
        // it is another stream.
        let owner = self.owners.get(&connection);
        if owner.is_some_and(|tid| *tid != key.1) {
            if seen.line.1 == 0 {
                self.end_descriptor(connection.0, connection.1, at_ns);
            } else if self.shared.len() < self.config.max_total {
                self.shared.insert(connection);
            }
        }
        if self.owners.len() < self.config.max_total || self.owners.contains_key(&connection) {
            self.owners.insert(connection, key.1);
        }
        let config = &self.config;
        let timeline = self
            .threads
            .entry(key)
            .or_insert_with(|| Timeline::new(config));
        timeline.forget(at_ns);
        Some(timeline)
    }

    fn forget_idle(&mut self, now: Nanos) {
        self.threads.retain(|_, timeline| {
            timeline.forget(now);
            !timeline.is_empty()
        });
        let threads = &self.threads;
        self.owners
            .retain(|(pid, _), tid| threads.contains_key(&(*pid, *tid)));
        let owners = &self.owners;
        self.shared
            .retain(|connection| owners.contains_key(connection));
    }

    /// The context of an affected call. Ask after [`Join::resolve_after`] its end.
    pub fn resolve(&self, call: &AffectedCall) -> Context {
        let seen = || self.by_requests(call);
        rules::published(&self.spans, call, seen).unwrap_or_else(seen)
    }

    /// The context by the requests that the thread reads and sends.
    fn by_requests(&self, call: &AffectedCall) -> Context {
        if rules::accepts(call) {
            return Context::none("who accepts a connection serves nobody by that");
        }
        let nothing = Timeline::new(&self.config);
        let timeline = self.threads.get(&(call.pid, call.tid)).unwrap_or(&nothing);
        let open = rules::served(timeline, call);
        let migrates = self.processes.may_migrate(call.pid);
        let others = self.others(call);
        let own = rules::own_span(timeline, &others, call, &open, migrates);
        let context = own.or_else(|| self.made_for(call)).unwrap_or_else(|| {
            let on_same = open.iter().any(|i| i.line.0 == call.fd);
            let shared = migrates || open.is_empty() && self.processes.waits_for_many(call.pid);
            match shared && !on_same {
                true => rules::of_process(open, &others, call, migrates),
                false => rules::callers_span(timeline, call, &open),
            }
        });
        self.with_own_span(context, call)
    }

    /// The span of the request that the call's socket was made for.
    fn made_for(&self, call: &AffectedCall) -> Option<Context> {
        let socket = (call.pid, call.fd);
        let parent = self.births.made_for(socket, call.start_ns, &self.threads)?;
        Some(Context::caller(
            parent,
            0.85,
            "the request that was read before the socket was made",
        ))
    }

    /// Timelines of the other threads of the call's process.
    fn others(&self, call: &AffectedCall) -> Vec<&Timeline> {
        let other = |key: &(u32, u32)| key.0 == call.pid && key.1 != call.tid;
        let others = self.threads.iter().filter(|(key, _)| other(key));
        others.map(|(_, timeline)| timeline).collect()
    }

    /// In place of the caller's span, the one that it was answered under, where the application sent it.
    fn with_own_span(&self, context: Context, call: &AffectedCall) -> Context {
        let caller = context
            .parent
            .filter(|_| context.kind == Some(ParentKind::Caller));
        let times = (call.start_ns, call.end_ns);
        match caller.and_then(|caller| self.own.answering(&caller, times)) {
            Some(own) => Context {
                source: Source::OtlpPassthrough,
                ..Context::own(
                    own,
                    context.confidence,
                    "the span that the application sent for this request",
                )
            },
            None => context,
        }
    }
}

#[cfg(test)]
#[path = "join/tests.rs"]
mod tests;
