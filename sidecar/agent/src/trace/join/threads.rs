//! Which span a thread worked for at a moment, as its process or another program said.

use std::collections::{HashMap, VecDeque};

use crate::record::{Nanos, SpanSource, ThreadSpan};
use crate::trace::SpanContext;

use super::SECOND;

const MAX_SPANS: usize = 65_536;
const MAX_AGE: Nanos = 60 * SECOND;

/// Phases that are kept.
const MAX_PHASES: usize = 64;

type Thread = (u32, u32);

/// What was told of the last minute.
#[derive(Debug, Default)]
pub(super) struct ThreadSpans {
    threads: HashMap<Thread, Told>,
    order: VecDeque<(Nanos, Thread)>,
    /// When changes began to be told, or ceased to be.
    phases: VecDeque<(Nanos, Telling)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Telling {
    /// Of every change.
    Changes,
    /// Of single calls.
    Calls,
}

#[derive(Debug, Default)]
struct Told {
    spans: VecDeque<Span>,
    lost: u32,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    at_ns: Nanos,
    /// Until when it is known to hold at most; later ones end it, too.
    until_ns: Nanos,
    /// It was told for one call, and says nothing about others.
    once: bool,
    span: Option<(SpanContext, SpanSource)>,
}

impl ThreadSpans {
    pub(super) fn take(&mut self, told: &ThreadSpan) {
        let key = (told.pid, told.tid);
        let says_nothing = told.span.is_none() && !told.continues;
        if says_nothing && !self.threads.contains_key(&key) {
            return;
        }
        let thread = self.threads.entry(key).or_default();
        if thread.lost != told.lost {
            thread.lost = told.lost;
            thread.end(0);
        }
        if says_nothing {
            return;
        }
        let span = Span {
            at_ns: told.at_ns,
            until_ns: match told.continues {
                true => Nanos::MAX,
                false => told.at_ns,
            },
            once: !told.continues,
            span: told.span.map(|span| (span, told.source)),
        };
        // Nearly always the last.
        let later = |other: &Span| other.at_ns > span.at_ns;
        let at = thread.spans.iter().rposition(|other| !later(other));
        thread.spans.insert(at.map_or(0, |at| at + 1), span);
        self.order.push_back((told.at_ns, key));
        self.forget(told.at_ns);
    }

    fn forget(&mut self, now: Nanos) {
        while let Some((at_ns, key)) = self.order.front().copied() {
            let old = now.saturating_sub(at_ns) > MAX_AGE;
            if !old && self.order.len() <= MAX_SPANS {
                return;
            }
            self.order.pop_front();
            if let Some(thread) = self.threads.get_mut(&key) {
                thread.spans.pop_front();
                if thread.spans.is_empty() {
                    self.threads.remove(&key);
                }
            }
        }
    }

    /// Changes cease to be told: some time after `at_ns`, which is when that was asked for.
    pub(super) fn cease(&mut self, at_ns: Nanos) {
        self.begin((at_ns, Telling::Calls));
    }

    /// Changes are told again: likewise some time after `at_ns`.
    pub(super) fn resume(&mut self, at_ns: Nanos) {
        self.begin((at_ns, Telling::Changes));
    }

    fn begin(&mut self, phase: (Nanos, Telling)) {
        if self.phases.len() >= MAX_PHASES {
            self.phases.pop_front();
        }
        self.phases.push_back(phase);
    }

    /// Since when every change that a thread made up to `at_ns` was told, if it was.
    fn told_since(&self, at_ns: Nanos) -> Option<Nanos> {
        match self.phases.iter().rev().find(|(begun, _)| *begun <= at_ns) {
            Some((begun, Telling::Changes)) => Some(*begun),
            Some((_, Telling::Calls)) => None,
            None => (self.phases.len() < MAX_PHASES).then_some(0),
        }
    }

    /// The process ended, or executes another program.
    pub(super) fn end_process(&mut self, pid: u32, at_ns: Nanos) {
        let of_process = self.threads.iter_mut().filter(|(key, _)| key.0 == pid);
        of_process.for_each(|(_, thread)| thread.end(at_ns));
    }

    pub(super) fn end_thread(&mut self, key: Thread, at_ns: Nanos) {
        if let Some(thread) = self.threads.get_mut(&key) {
            thread.end(at_ns);
        }
    }

    /// The span that the thread worked for when its call returned at `at_ns`, or that it had none; none
    /// where that is not known.
    pub(super) fn at(
        &self,
        key: Thread,
        at_ns: Nanos,
    ) -> Option<Option<(SpanContext, SpanSource)>> {
        let before = self.threads.get(&key)?.spans.iter().rev();
        let mut before = before.skip_while(|span| span.at_ns > at_ns);
        let last = before.find(|span| span.at_ns == at_ns || !span.once)?;
        let since = self.told_since(at_ns);
        let goes_on = since.is_some_and(|since| last.at_ns >= since) && last.until_ns >= at_ns;
        (last.at_ns == at_ns || goes_on).then_some(last.span)
    }
}

impl Told {
    /// What was told to continue held until `at_ns` at most, or no longer than its own call if that was later.
    fn end(&mut self, at_ns: Nanos) {
        if let Some(span) = self.spans.iter_mut().rfind(|span| !span.once) {
            span.until_ns = span.until_ns.min(span.at_ns.max(at_ns));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Thread = (1, 2);

    fn told(at_ns: Nanos, id: u8) -> ThreadSpan {
        ThreadSpan {
            at_ns,
            container: 0,
            pid: KEY.0,
            tid: KEY.1,
            span: (id != 0).then_some(SpanContext {
                trace_id: [9; 16],
                span_id: [id; 8],
                flags: 1,
            }),
            source: SpanSource::Thread,
            continues: true,
            lost: 0,
        }
    }

    fn once(at_ns: Nanos, id: u8) -> ThreadSpan {
        ThreadSpan {
            continues: false,
            ..told(at_ns, id)
        }
    }

    fn after_loss(span: ThreadSpan) -> ThreadSpan {
        ThreadSpan { lost: 1, ..span }
    }

    fn spans(all: &[ThreadSpan]) -> ThreadSpans {
        let mut spans = ThreadSpans::default();
        all.iter().for_each(|span| spans.take(span));
        spans
    }

    /// The id of the span at a moment: 0 for none, -1 where it is not known.
    fn at(spans: &ThreadSpans, at_ns: Nanos) -> i32 {
        match spans.at(KEY, at_ns) {
            None => -1,
            Some(None) => 0,
            Some(Some((span, _))) => i32::from(span.span_id[0]),
        }
    }

    #[test]
    fn a_span_holds_until_the_next_change() {
        let spans = spans(&[told(10, 1), told(20, 0), told(30, 2)]);
        let found = [9, 10, 19, 20, 29, 30, 99].map(|now| at(&spans, now));
        assert_eq!(found, [-1, 1, 1, 0, 0, 2, 2]);
        assert_eq!(spans.at((1, 3), 15), None);
    }

    #[test]
    fn what_is_told_once_holds_for_its_own_call_alone() {
        let mut all = spans(&[told(10, 1), once(12, 5)]);
        assert_eq!([11, 12, 13].map(|now| at(&all, now)), [1, 5, 1]);
        all.cease(15);
        all.take(&once(20, 2));
        all.take(&once(30, 3));
        let found = [14, 16, 20, 21, 30, 31].map(|now| at(&all, now));
        assert_eq!(found, [1, -1, 2, -1, 3, -1]);
    }

    #[test]
    fn what_was_told_before_changes_ceased_does_not_hold_once_they_are_told_again() {
        let mut all = spans(&[told(10, 1)]);
        all.cease(20);
        // It took a while until they did, and this comes later than that is known.
        all.take(&told(25, 2));
        all.resume(40);
        assert_eq!([19, 25, 26, 41].map(|now| at(&all, now)), [1, 2, -1, -1]);
        all.take(&told(45, 3));
        assert_eq!([44, 45, 50].map(|now| at(&all, now)), [-1, 3, 3]);
    }

    #[test]
    fn after_a_loss_nothing_is_known_until_the_next_change() {
        let mut all = spans(&[told(10, 1)]);
        all.take(&after_loss(once(25, 0)));
        assert_eq!([10, 11, 24].map(|now| at(&all, now)), [1, -1, -1]);
        all.take(&after_loss(told(30, 2)));
        assert_eq!([29, 30, 35].map(|now| at(&all, now)), [-1, 2, 2]);
        // Nor what was told before.
        let mut all = spans(&[told(5, 3), told(10, 1)]);
        all.take(&after_loss(once(25, 0)));
        assert_eq!([9, 10, 11].map(|now| at(&all, now)), [3, 1, -1]);
        // The loss shows only with the change after it.
        let all = spans(&[told(10, 1), after_loss(told(30, 2))]);
        assert_eq!([10, 20, 30].map(|now| at(&all, now)), [1, -1, 2]);
    }

    #[test]
    fn a_thread_that_ended_is_no_other_one() {
        for end in [
            |all: &mut ThreadSpans| all.end_thread(KEY, 20),
            |all: &mut ThreadSpans| all.end_process(KEY.0, 20),
        ] {
            let mut all = spans(&[told(10, 1)]);
            end(&mut all);
            assert_eq!([20, 21].map(|now| at(&all, now)), [1, -1]);
        }
    }

    #[test]
    fn what_comes_late_stands_where_it_belongs() {
        let spans = spans(&[told(10, 1), told(30, 3), told(20, 2)]);
        assert_eq!([15, 25, 35].map(|now| at(&spans, now)), [1, 2, 3]);
    }

    #[test]
    fn spans_are_bounded_in_number_and_age() {
        let mut all = ThreadSpans::default();
        for number in 0..MAX_SPANS as u64 + 10 {
            all.take(&told(number, 1));
        }
        assert_eq!(all.order.len(), MAX_SPANS);
        assert_eq!(all.threads[&KEY].spans.len(), MAX_SPANS);
        all.take(&told(MAX_AGE + SECOND, 2));
        assert_eq!((all.order.len(), all.threads[&KEY].spans.len()), (1, 1));
    }
}
