//! Spans that applications sent themselves: which one a request was answered under.

use std::collections::{HashMap, VecDeque};

use crate::record::{Nanos, OwnSpan};
use crate::trace::SpanContext;

use super::SECOND;

const MAX_SPANS: usize = 16_384;
const MAX_AGE: Nanos = 120 * SECOND;
/// Clocks of application and records may differ by this much.
const CLOCKS: Nanos = SECOND / 4;
/// After the last span that came, more are waited for.
const EXPECTED: Nanos = 60 * SECOND;

type Parent = ([u8; 16], [u8; 8]);

/// The spans of the last minutes that answer requests, by whom they were asked by.
#[derive(Debug, Default)]
pub(super) struct OwnSpans {
    by_caller: HashMap<Parent, Vec<OwnSpan>>,
    order: VecDeque<(Nanos, Parent)>,
    last_ns: Option<Nanos>,
}

impl OwnSpans {
    pub(super) fn take(&mut self, span: &OwnSpan) {
        self.last_ns = self.last_ns.max(Some(span.at_ns));
        let Some(parent) = span.parent.filter(|_| span.serves) else {
            return;
        };
        let key = (span.span.trace_id, parent);
        self.by_caller.entry(key).or_default().push(span.clone());
        self.order.push_back((span.at_ns, key));
        self.forget(span.at_ns);
    }

    fn forget(&mut self, now: Nanos) {
        while let Some((at_ns, key)) = self.order.front().copied() {
            let old = now.saturating_sub(at_ns) > MAX_AGE;
            if !old && self.order.len() <= MAX_SPANS {
                return;
            }
            self.order.pop_front();
            // Those of one caller came in the same order.
            if let Some(spans) = self.by_caller.get_mut(&key) {
                spans.remove(0);
                if spans.is_empty() {
                    self.by_caller.remove(&key);
                }
            }
        }
    }

    /// Whether the application's spans come through here.
    pub(super) fn are_expected(&self, now: Nanos) -> bool {
        let recent = |last: Nanos| now.saturating_sub(last) <= EXPECTED;
        self.last_ns.is_some_and(recent)
    }

    /// The one span that answered `caller` while the call was made.
    pub(super) fn answering(
        &self,
        caller: &SpanContext,
        (start_ns, end_ns): (Nanos, Nanos),
    ) -> Option<SpanContext> {
        let spans = self.by_caller.get(&(caller.trace_id, caller.span_id))?;
        let around = |span: &&OwnSpan| {
            span.start_ns <= start_ns.saturating_add(CLOCKS)
                && span.end_ns.saturating_add(CLOCKS) >= end_ns
        };
        let mut around = spans.iter().filter(around);
        match (around.next(), around.next()) {
            (Some(only), None) => Some(only.span),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLER: SpanContext = SpanContext {
        trace_id: [7; 16],
        span_id: [1; 8],
        flags: 1,
    };

    fn span(id: u8, at_s: u64, parent: Option<[u8; 8]>) -> OwnSpan {
        OwnSpan {
            at_ns: at_s * SECOND,
            span: SpanContext {
                span_id: [id; 8],
                ..CALLER
            },
            parent,
            serves: true,
            start_ns: (at_s - 2) * SECOND,
            end_ns: (at_s - 1) * SECOND,
        }
    }

    fn call(second: u64) -> (Nanos, Nanos) {
        (second * SECOND + SECOND / 3, second * SECOND + SECOND / 2)
    }

    #[test]
    fn the_span_that_answers_the_caller_is_the_one() {
        let mut spans = OwnSpans::default();
        spans.take(&span(2, 12, Some(CALLER.span_id)));
        spans.take(&span(3, 12, Some([9; 8])));
        spans.take(&span(4, 12, None));
        let inner = OwnSpan {
            serves: false,
            ..span(5, 12, Some(CALLER.span_id))
        };
        spans.take(&inner);
        let found = spans.answering(&CALLER, call(10)).unwrap();
        assert_eq!((found.span_id, found.trace_id), ([2; 8], [7; 16]));
        let other = SpanContext {
            trace_id: [8; 16],
            ..CALLER
        };
        assert_eq!(spans.answering(&other, call(10)), None);
    }

    /// A caller that asks several times under one span.
    #[test]
    fn of_several_answers_only_the_time_tells_and_where_it_does_not_none_is_meant() {
        let mut spans = OwnSpans::default();
        spans.take(&span(2, 12, Some(CALLER.span_id)));
        spans.take(&span(3, 15, Some(CALLER.span_id)));
        let found = |second| spans.answering(&CALLER, call(second)).map(|s| s.span_id);
        assert_eq!((found(10), found(13)), (Some([2; 8]), Some([3; 8])));
        assert_eq!(found(20), None);
        let mut both = OwnSpans::default();
        both.take(&span(2, 12, Some(CALLER.span_id)));
        both.take(&span(3, 12, Some(CALLER.span_id)));
        assert_eq!(both.answering(&CALLER, call(10)), None);
    }

    #[test]
    fn spans_are_bounded_in_number_and_age() {
        let mut spans = OwnSpans::default();
        for number in 0..MAX_SPANS as u64 + 10 {
            let mut one = span(2, 12, Some(number.to_le_bytes()));
            one.at_ns += number;
            spans.take(&one);
        }
        assert_eq!(spans.order.len(), MAX_SPANS);
        assert_eq!(spans.by_caller.len(), MAX_SPANS);
        spans.take(&span(3, 1000, Some(CALLER.span_id)));
        assert_eq!((spans.order.len(), spans.by_caller.len()), (1, 1));
        assert!(spans.are_expected(1030 * SECOND));
        assert!(!spans.are_expected(1100 * SECOND));
    }
}
