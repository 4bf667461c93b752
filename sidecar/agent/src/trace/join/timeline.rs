//! One thread's requests, in order of time.

use std::collections::VecDeque;

use crate::record::{Direction, Nanos};

use super::{JoinConfig, SECOND, SpanContext};

/// Requests that follow each other on a connection by more than this are not pipelined: an answer
/// was missed.
const PIPELINE_SPREAD: Nanos = SECOND;
/// A request without an answer is kept this long: calls that hang are asked about late.
const KEEP_OPEN: Nanos = 300 * SECOND;

/// A descriptor, and of HTTP/2 a stream on it; 0 else.
pub(super) type Line = (i32, u32);

/// A request that the thread read.
#[derive(Clone, Debug)]
pub(super) struct Incoming {
    pub(super) line: Line,
    pub(super) opened_ns: Nanos,
    closed_ns: Option<Nanos>,
    pub(super) context: Option<SpanContext>,
    /// Read while an earlier request on the same descriptor was unanswered, so answers on this
    /// descriptor cannot be told apart.
    pub(super) doubtful: bool,
}

impl Incoming {
    pub(super) fn new(line: Line, opened_ns: Nanos, context: Option<SpanContext>) -> Self {
        Incoming {
            line,
            opened_ns,
            closed_ns: None,
            context,
            doubtful: false,
        }
    }
}

/// A request that the thread wrote.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub(super) line: Line,
    pub(super) sent_ns: Nanos,
    answered_ns: Option<Nanos>,
    /// The descriptor was closed or the thread ended.
    ended_ns: Option<Nanos>,
    pub(super) context: Option<SpanContext>,
}

impl Outgoing {
    pub(super) fn new(line: Line, sent_ns: Nanos, context: Option<SpanContext>) -> Self {
        Outgoing {
            line,
            sent_ns,
            answered_ns: None,
            ended_ns: None,
            context,
        }
    }

    pub(super) fn answered_before(&self, at: Nanos) -> bool {
        self.answered_ns.is_some_and(|t| t <= at)
    }

    pub(super) fn ended_before(&self, at: Nanos) -> bool {
        self.ended_ns.is_some_and(|t| t <= at)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Timeline {
    incoming: VecDeque<Incoming>,
    outgoing: VecDeque<Outgoing>,
    /// A request was answered after a later one had been read on another descriptor.
    interleaves: bool,
    /// A request was sent while one on another descriptor was unanswered.
    sends_overlap: bool,
    max_requests: usize,
    max_age_ns: Nanos,
    /// When the last of the requests was read that were dropped before they were answered.
    dropped_open_ns: Option<Nanos>,
}

impl Timeline {
    pub(super) fn new(config: &JoinConfig) -> Self {
        Timeline {
            incoming: VecDeque::new(),
            outgoing: VecDeque::new(),
            interleaves: false,
            sends_overlap: false,
            max_requests: config.max_requests,
            max_age_ns: config.max_age_ns,
            dropped_open_ns: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.incoming.is_empty() && self.outgoing.is_empty()
    }

    /// The thread serves requests of several descriptors at once, during this one or before.
    pub(super) fn interleaves(&self, with: &Incoming) -> bool {
        let overlaps = |i: &Incoming| {
            i.line != with.line && i.closed_ns.is_some_and(|closed| closed > with.opened_ns)
        };
        self.interleaves || self.incoming.iter().any(overlaps)
    }

    pub(super) fn sends_overlap(&self) -> bool {
        self.sends_overlap
    }

    /// Streams of one descriptor whose requests had no answer at `at`. Without streams, an answer that was
    /// missed is over when the next request is sent.
    pub(super) fn unanswered_on(&self, fd: i32, at: Nanos) -> impl Iterator<Item = &Outgoing> {
        self.outgoing.iter().filter(move |o| {
            let streamed = o.line.0 == fd && o.line.1 != 0;
            streamed && o.sent_ns <= at && !o.answered_before(at) && !o.ended_before(at)
        })
    }

    pub(super) fn open(&mut self, mut request: Incoming) {
        let waiting = |i: &Incoming| i.closed_ns.is_none() && i.line == request.line;
        request.doubtful = self.incoming.iter().any(waiting);
        insert(&mut self.incoming, request, |i| i.opened_ns);
        if self.incoming.len() > self.max_requests {
            self.drop_first();
        }
    }

    /// Requests that were not answered are forgotten: more may be open than are known.
    fn drop_first(&mut self) {
        let first = self.incoming.pop_front();
        let open = first.filter(|i| i.closed_ns.is_none());
        self.dropped_open_ns = self.dropped_open_ns.max(open.map(|i| i.opened_ns));
    }

    /// Drops requests that came up to then.
    pub(super) fn drop_until(&mut self, until: Nanos) {
        while self.incoming.front().is_some_and(|i| i.opened_ns <= until) {
            self.drop_first();
        }
        while self.outgoing.front().is_some_and(|o| o.sent_ns <= until) {
            self.outgoing.pop_front();
        }
    }

    /// Requests that are not known may be open at `at`.
    pub(super) fn has_forgotten(&self, at: Nanos) -> bool {
        let dropped = self.dropped_open_ns;
        dropped.is_some_and(|opened| opened.saturating_add(self.max_age_ns) >= at)
    }

    pub(super) fn send(&mut self, request: Outgoing) {
        let at = request.sent_ns;
        let waiting =
            |o: &Outgoing| o.line != request.line && !o.answered_before(at) && !o.ended_before(at);
        self.sends_overlap = self.sends_overlap || self.outgoing.iter().any(waiting);
        insert(&mut self.outgoing, request, |o| o.sent_ns);
        if self.outgoing.len() > self.max_requests {
            self.outgoing.pop_front();
        }
    }

    /// A response head: `Outgoing` answers what was read here, `Incoming` what was sent. False
    /// when nothing on this thread waited for it.
    pub(super) fn answer(&mut self, direction: Direction, line: Line, at_ns: Nanos) -> bool {
        match direction {
            Direction::Outgoing => self.close_incoming(line, at_ns),
            Direction::Incoming => {
                let waiting = |o: &&mut Outgoing| {
                    o.line == line && o.sent_ns <= at_ns && o.answered_ns.is_none()
                };
                let oldest = self.outgoing.iter_mut().find(waiting);
                oldest.map(|o| o.answered_ns = Some(at_ns)).is_some()
            }
        }
    }

    /// Closes the oldest open request on the descriptor; all of them when they cannot have been
    /// pipelined.
    fn close_incoming(&mut self, line: Line, at_ns: Nanos) -> bool {
        let waiting =
            |i: &Incoming| i.line == line && i.closed_ns.is_none() && i.opened_ns <= at_ns;
        let mut opened = self
            .incoming
            .iter()
            .filter(|i| waiting(i))
            .map(|i| i.opened_ns);
        let Some(first) = opened.next() else {
            return false;
        };
        let all = opened
            .next_back()
            .is_some_and(|last| last - first > PIPELINE_SPREAD);
        let later_elsewhere =
            |i: &Incoming| i.line != line && i.opened_ns > first && i.opened_ns <= at_ns;
        self.interleaves |= self.incoming.iter().any(later_elsewhere);
        for request in self.incoming.iter_mut().filter(|i| waiting(i)) {
            if all || request.opened_ns == first {
                request.closed_ns = Some(at_ns);
            }
        }
        true
    }

    /// The thread answers: the one request that it has open. False when there is none, or another one.
    pub(super) fn close_only(&mut self, at_ns: Nanos) -> bool {
        let is_open = |i: &&mut Incoming| i.closed_ns.is_none() && i.opened_ns <= at_ns;
        let mut open = self.incoming.iter_mut().filter(is_open);
        let (Some(only), None) = (open.next(), open.next()) else {
            return false;
        };
        only.closed_ns = Some(at_ns);
        true
    }

    /// The descriptor was closed.
    pub(super) fn end_descriptor(&mut self, fd: i32, at_ns: Nanos) {
        self.end(at_ns, |other| other == fd);
    }

    /// The thread ended or its image was replaced.
    pub(super) fn end_all(&mut self, at_ns: Nanos) {
        self.end(at_ns, |_| true);
    }

    fn end(&mut self, at_ns: Nanos, concerned: impl Fn(i32) -> bool) {
        for i in self
            .incoming
            .iter_mut()
            .filter(|i| concerned(i.line.0) && i.opened_ns <= at_ns)
        {
            i.closed_ns.get_or_insert(at_ns);
        }
        for o in self
            .outgoing
            .iter_mut()
            .filter(|o| concerned(o.line.0) && o.sent_ns <= at_ns)
        {
            o.ended_ns.get_or_insert(at_ns);
        }
    }

    /// Drops what is too old to be asked about.
    pub(super) fn forget(&mut self, now: Nanos) {
        let age = self.max_age_ns;
        let old = |end: Option<Nanos>, start: Nanos| match end {
            Some(end) => end.saturating_add(age) < now,
            None => start.saturating_add(KEEP_OPEN.max(age)) < now,
        };
        self.incoming.retain(|i| !old(i.closed_ns, i.opened_ns));
        self.outgoing
            .retain(|o| !old(o.answered_ns.or(o.ended_ns), o.sent_ns));
    }

    /// Requests that were being served at `at`.
    pub(super) fn open_at(&self, at: Nanos) -> Vec<&Incoming> {
        let fresh = |i: &&Incoming| i.opened_ns.saturating_add(self.max_age_ns) >= at;
        self.incoming
            .iter()
            .filter(|i| i.opened_ns <= at && i.closed_ns.is_none_or(|closed| closed > at))
            .filter(fresh)
            .collect()
    }

    /// A request was read in the `max_age` before `at`.
    pub(super) fn has_incoming(&self, at: Nanos) -> bool {
        self.incoming
            .iter()
            .any(|i| (self.oldest_asked(at)..=at).contains(&i.opened_ns))
    }

    /// Since when the thread serves no request, looking back from `at` at most `max_age`.
    pub(super) fn outside_since(&self, at: Nanos) -> Nanos {
        let closed = self
            .incoming
            .iter()
            .filter_map(|i| i.closed_ns)
            .filter(|t| *t <= at);
        closed.max().unwrap_or(0).max(self.oldest_asked(at))
    }

    /// How far back from `at` anything counts.
    pub(super) fn oldest_asked(&self, at: Nanos) -> Nanos {
        at.saturating_sub(self.max_age_ns)
    }

    pub(super) fn sent_between(
        &self,
        since: Nanos,
        until: Nanos,
    ) -> impl DoubleEndedIterator<Item = &Outgoing> {
        self.outgoing
            .iter()
            .filter(move |o| (since..=until).contains(&o.sent_ns))
    }
}

/// Inserts in order of time.
fn insert<T>(queue: &mut VecDeque<T>, item: T, time: impl Fn(&T) -> Nanos) {
    let at = queue
        .iter()
        .rposition(|other| time(other) <= time(&item))
        .map_or(0, |i| i + 1);
    queue.insert(at, item);
}
