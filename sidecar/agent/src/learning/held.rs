//! Times of which nothing is learned: a fault went on. Pure.

use crate::record::Nanos;

/// Spans kept apart; with more, what lies between the last ones is left out as well.
const MOST: usize = 64;

/// Spans of record time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// In order, apart from each other.
    spans: Vec<(Nanos, Nanos)>,
    /// An incident is open.
    open: bool,
}

impl Held {
    /// Nothing before `now` is learned from.
    pub(super) fn before(now: Nanos) -> Self {
        Self {
            spans: vec![(0, now)],
            open: false,
        }
    }

    /// An incident is open at `now` that began at `since`.
    pub(super) fn hold(&mut self, since: Nanos, now: Nanos) {
        let mut span = (since, now.max(since));
        while let Some(last) = self.spans.pop_if(|last| last.1 >= span.0) {
            span = (span.0.min(last.0), span.1.max(last.1));
        }
        self.spans.push(span);
        if self.spans.len() > MOST
            && let (Some(last), Some(before)) = (self.spans.pop(), self.spans.last_mut())
        {
            before.1 = last.1;
        }
        self.open = true;
    }

    /// No incident is open at `now`.
    pub(super) fn release(&mut self, now: Nanos) {
        if std::mem::take(&mut self.open)
            && let Some(last) = self.spans.last_mut()
        {
            last.1 = last.1.max(now);
        }
    }

    /// Spans that earlier processes left out, in order, come before these.
    pub(super) fn follow(&mut self, earlier: impl IntoIterator<Item = (Nanos, Nanos)>) {
        let own = std::mem::take(self);
        for (from, to) in earlier.into_iter().chain(own.spans) {
            self.hold(from, to);
        }
        self.open = own.open;
    }

    /// The spans; one that is open lasts to the end of time.
    pub(super) fn lasting(&self) -> Vec<(Nanos, Nanos)> {
        let mut spans = self.spans.clone();
        if self.open
            && let Some(last) = spans.last_mut()
        {
            last.1 = Nanos::MAX;
        }
        spans
    }

    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    pub(super) fn spans(&self) -> &[(Nanos, Nanos)] {
        &self.spans
    }
}

/// Whether anything from `from` to `to` lies in one of the spans.
pub(super) fn overlaps(spans: &[(Nanos, Nanos)], from: Nanos, to: Nanos) -> bool {
    spans.iter().any(|span| from <= span.1 && to >= span.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_process_left_out_stays_left_out() {
        let mut earlier = Held::default();
        earlier.hold(10, 12);
        earlier.release(14);
        earlier.hold(30, 31);
        assert_eq!(earlier.lasting(), [(10, 14), (30, Nanos::MAX)]);
        let mut held = Held::default();
        held.hold(50, 52);
        held.follow([(10, 14), (30, 40)]);
        assert_eq!(held.spans(), [(10, 14), (30, 40), (50, 52)]);
        assert!(held.is_open());
        let mut calm = Held::default();
        calm.follow([(10, 14)]);
        assert!(!calm.is_open());
        assert!(overlaps(calm.spans(), 14, 20) && !overlaps(calm.spans(), 15, 29));
    }

    #[test]
    fn an_incident_is_left_out_from_its_first_affected_call_to_its_end() {
        let mut held = Held::default();
        held.release(5);
        assert_eq!(held.spans(), []);
        held.hold(10, 12);
        assert!(held.is_open());
        held.hold(10, 13);
        held.release(14);
        assert!(!held.is_open());
        held.hold(20, 22);
        assert_eq!(held.spans(), [(10, 14), (20, 22)]);
        // An onset that lies further back.
        held.hold(9, 23);
        assert_eq!(held.spans(), [(9, 23)]);
    }

    #[test]
    fn spans_are_bounded() {
        let mut held = Held::before(1);
        for n in 1..200 {
            held.hold(10 * n, 10 * n + 1);
            held.release(10 * n + 2);
        }
        assert_eq!(held.spans().len(), MOST);
        assert_eq!(held.spans().last().unwrap().1, 1992);
    }
}
