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

    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    pub(super) fn spans(&self) -> &[(Nanos, Nanos)] {
        &self.spans
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
