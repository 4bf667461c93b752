//! One thread's requests, in order of time.

use crate::record::{Direction, Nanos};

use super::kept::{Kept, Request};
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

impl Request for Incoming {
    fn begun_ns(&self) -> Nanos {
        self.opened_ns
    }

    fn over_ns(&self) -> Option<Nanos> {
        self.closed_ns
    }
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

impl Request for Outgoing {
    fn begun_ns(&self) -> Nanos {
        self.sent_ns
    }

    fn over_ns(&self) -> Option<Nanos> {
        self.answered_ns.or(self.ended_ns)
    }
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
    incoming: Kept<Incoming>,
    outgoing: Kept<Outgoing>,
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
            incoming: Kept::default(),
            outgoing: Kept::default(),
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
        let mut over = self.incoming.over_after(with.opened_ns);
        self.interleaves || over.any(|i| i.line != with.line)
    }

    pub(super) fn sends_overlap(&self) -> bool {
        self.sends_overlap
    }

    /// Streams of one descriptor whose requests had no answer at `at`. Without streams, an answer that was
    /// missed is over when the next request is sent.
    pub(super) fn unanswered_on(&self, fd: i32, at: Nanos) -> impl Iterator<Item = &Outgoing> {
        self.outgoing.all().filter(move |o| {
            let streamed = o.line.0 == fd && o.line.1 != 0;
            streamed && o.sent_ns <= at && !o.answered_before(at) && !o.ended_before(at)
        })
    }

    /// Requests on a descriptor, sent by `until`, that had no answer at `at`.
    pub(super) fn asked_on(
        &self,
        fd: i32,
        at: Nanos,
        until: Nanos,
    ) -> impl Iterator<Item = &Outgoing> {
        let asked = self.oldest_asked(at)..=until;
        self.outgoing.all().filter(move |o| {
            let open = !o.answered_before(at) && !o.ended_before(at);
            o.line.0 == fd && asked.contains(&o.sent_ns) && open
        })
    }

    pub(super) fn open(&mut self, mut request: Incoming) {
        let mut open = self.incoming.open().iter();
        request.doubtful = open.any(|i| i.line == request.line);
        let dropped = self.incoming.add(request, self.max_requests);
        self.forgotten(dropped);
    }

    /// Requests that were not answered are forgotten: more may be open than are known.
    fn forgotten(&mut self, dropped: impl IntoIterator<Item = Incoming>) {
        let open = dropped.into_iter().filter(|i| i.closed_ns.is_none());
        let last = open.map(|i| i.opened_ns).max();
        self.dropped_open_ns = self.dropped_open_ns.max(last);
    }

    /// Drops requests that came up to then.
    pub(super) fn drop_until(&mut self, until: Nanos) {
        let dropped = self.incoming.drop_before(0, until.saturating_add(1));
        self.forgotten(dropped);
        self.outgoing.drop_before(0, until.saturating_add(1));
    }

    /// Requests that are not known may be open at `at`.
    pub(super) fn has_forgotten(&self, at: Nanos) -> bool {
        let dropped = self.dropped_open_ns;
        dropped.is_some_and(|opened| opened.saturating_add(self.max_age_ns) >= at)
    }

    pub(super) fn send(&mut self, request: Outgoing) {
        let mut waiting = self.outgoing.open().iter();
        self.sends_overlap |= waiting.any(|o| o.line != request.line);
        // A request that is forgotten was answered long ago, or its connection is not used any more.
        let _ = self.outgoing.add(request, self.max_requests);
    }

    /// A response head: `Outgoing` answers what was read here, `Incoming` what was sent. False
    /// when nothing on this thread waited for it.
    pub(super) fn answer(&mut self, direction: Direction, line: Line, at_ns: Nanos) -> bool {
        match direction {
            Direction::Outgoing => self.close_incoming(line, at_ns),
            Direction::Incoming => {
                let mut answered = false;
                self.outgoing.end(|o| {
                    if !answered && o.line == line && o.sent_ns <= at_ns {
                        o.answered_ns = Some(at_ns);
                        answered = true;
                    }
                });
                answered
            }
        }
    }

    /// Closes the oldest open request on the descriptor; all of them when they cannot have been
    /// pipelined.
    fn close_incoming(&mut self, line: Line, at_ns: Nanos) -> bool {
        let waiting = |i: &Incoming| i.line == line && i.opened_ns <= at_ns;
        let open = self.incoming.open().iter();
        let mut opened = open.filter(|i| waiting(i)).map(|i| i.opened_ns);
        let Some(first) = opened.next() else {
            return false;
        };
        let all = opened
            .next_back()
            .is_some_and(|last| last - first > PIPELINE_SPREAD);
        let later_elsewhere =
            |i: &Incoming| i.line != line && i.opened_ns > first && i.opened_ns <= at_ns;
        if !self.interleaves {
            // What was read after `first` is not over before it.
            let later = self.incoming.over_after(first);
            let mut all = self.incoming.open().iter().chain(later);
            self.interleaves = all.any(later_elsewhere);
        }
        self.incoming.end(|i| {
            if waiting(i) && (all || i.opened_ns == first) {
                i.closed_ns = Some(at_ns);
            }
        });
        true
    }

    /// The thread answers: the one request that it has open. False when there is none, or another one.
    pub(super) fn close_only(&mut self, at_ns: Nanos) -> bool {
        let open = self.incoming.open().iter();
        let mut open = open.filter(|i| i.opened_ns <= at_ns).map(|i| i.opened_ns);
        let (Some(only), None) = (open.next(), open.next()) else {
            return false;
        };
        self.incoming.end(|i| {
            if i.opened_ns == only {
                i.closed_ns = Some(at_ns);
            }
        });
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
        self.incoming.end(|i| {
            if concerned(i.line.0) && i.opened_ns <= at_ns {
                i.closed_ns = Some(at_ns);
            }
        });
        self.outgoing.end(|o| {
            if concerned(o.line.0) && o.sent_ns <= at_ns {
                o.ended_ns = Some(at_ns);
            }
        });
    }

    /// Drops what is too old to be asked about.
    pub(super) fn forget(&mut self, now: Nanos) {
        let over = now.saturating_sub(self.max_age_ns);
        let begun = now.saturating_sub(KEEP_OPEN.max(self.max_age_ns));
        // Too old to be anything's context.
        self.incoming.drop_before(over, begun);
        self.outgoing.drop_before(over, begun);
    }

    /// Requests that were being served at `at`.
    pub(super) fn open_at(&self, at: Nanos) -> Vec<&Incoming> {
        let asked = self.oldest_asked(at)..=at;
        let all = self.incoming.over_after(at).chain(self.incoming.open());
        let mut open: Vec<_> = all.filter(|i| asked.contains(&i.opened_ns)).collect();
        open.sort_by_key(|i| (i.opened_ns, i.line));
        open
    }

    /// A request was read in the `max_age` before `at`.
    pub(super) fn has_incoming(&self, at: Nanos) -> bool {
        let asked = self.oldest_asked(at)..=at;
        self.incoming.all().any(|i| asked.contains(&i.opened_ns))
    }

    /// Since when the thread serves no request, looking back from `at` at most `max_age`.
    pub(super) fn outside_since(&self, at: Nanos) -> Nanos {
        let closed = self.incoming.last_over_by(at);
        closed.unwrap_or(0).max(self.oldest_asked(at))
    }

    /// How far back from `at` anything counts.
    pub(super) fn oldest_asked(&self, at: Nanos) -> Nanos {
        at.saturating_sub(self.max_age_ns)
    }

    /// In the order in which they were sent.
    pub(super) fn sent_between(
        &self,
        since: Nanos,
        until: Nanos,
    ) -> impl DoubleEndedIterator<Item = &Outgoing> {
        let all = self.outgoing.all();
        let mut sent: Vec<_> = all
            .filter(|o| (since..=until).contains(&o.sent_ns))
            .collect();
        sent.sort_by_key(|o| o.sent_ns);
        sent.into_iter()
    }
}
