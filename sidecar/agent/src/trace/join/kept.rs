//! Requests of one thread and direction: those under way, and those that are over.

use std::collections::VecDeque;

use crate::record::Nanos;

/// A request that was read or sent.
pub(super) trait Request {
    fn begun_ns(&self) -> Nanos;
    /// None while it is under way.
    fn over_ns(&self) -> Option<Nanos>;
}

#[derive(Clone, Debug)]
pub(super) struct Kept<T> {
    /// In the order in which they began.
    open: Vec<T>,
    /// In the order in which they ended.
    over: VecDeque<T>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self {
            open: Vec::new(),
            over: VecDeque::new(),
        }
    }
}

impl<T: Request> Kept<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        self.open.len() + self.over.len()
    }

    pub(super) fn open(&self) -> &[T] {
        &self.open
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &T> {
        self.over.iter().chain(&self.open)
    }

    /// Those that were over after `at`, the last one first.
    pub(super) fn over_after(&self, at: Nanos) -> impl Iterator<Item = &T> {
        let after = move |request: &&T| request.over_ns().is_some_and(|over| over > at);
        self.over.iter().rev().take_while(after)
    }

    /// When the last one ended that was over by `at`.
    pub(super) fn last_over_by(&self, at: Nanos) -> Option<Nanos> {
        let ends = self.over.iter().rev().filter_map(Request::over_ns);
        ends.into_iter().find(|over| *over <= at)
    }

    /// Adds one; gives what has no place any more.
    #[must_use]
    pub(super) fn add(&mut self, request: T, most: usize) -> Option<T> {
        let earlier = |other: &T| other.begun_ns() <= request.begun_ns();
        let at = self.open.iter().rposition(earlier).map_or(0, |at| at + 1);
        self.open.insert(at, request);
        match self.len() > most {
            false => None,
            true if self.over.is_empty() => Some(self.open.remove(0)),
            true => self.over.pop_front(),
        }
    }

    /// Ends those under way that `end` ends.
    pub(super) fn end(&mut self, mut end: impl FnMut(&mut T)) {
        self.open.iter_mut().for_each(&mut end);
        for request in self
            .open
            .extract_if(.., |request| request.over_ns().is_some())
        {
            let earlier = |other: &T| other.over_ns() <= request.over_ns();
            // Nearly always the last.
            let at = self.over.iter().rposition(earlier).map_or(0, |at| at + 1);
            self.over.insert(at, request);
        }
    }

    /// Drops what ended before `over`, and what began before `begun`; gives what was under way.
    pub(super) fn drop_before(&mut self, over: Nanos, begun: Nanos) -> Vec<T> {
        let old = |request: &T| {
            request.over_ns().is_some_and(|at| at < over) || request.begun_ns() < begun
        };
        while self.over.front().is_some_and(old) {
            self.over.pop_front();
        }
        let count = self
            .open
            .partition_point(|request| request.begun_ns() < begun);
        self.open.drain(..count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Made(Nanos, Option<Nanos>);

    impl Request for Made {
        fn begun_ns(&self) -> Nanos {
            self.0
        }

        fn over_ns(&self) -> Option<Nanos> {
            self.1
        }
    }

    fn kept(begun: &[Nanos]) -> Kept<Made> {
        let mut kept = Kept::default();
        for at in begun {
            assert_eq!(kept.add(Made(*at, None), 100), None);
        }
        kept
    }

    fn end(kept: &mut Kept<Made>, begun: Nanos, at: Nanos) {
        kept.end(|one| {
            if one.0 == begun {
                one.1 = Some(at);
            }
        });
    }

    #[test]
    fn both_kinds_are_in_order_whatever_the_order_in_which_they_are_told() {
        let mut kept = kept(&[10, 30, 20, 40]);
        end(&mut kept, 20, 60);
        end(&mut kept, 10, 50);
        let begun = |all: &mut dyn Iterator<Item = &Made>| all.map(|one| one.0).collect::<Vec<_>>();
        assert_eq!(begun(&mut kept.open().iter()), [30, 40]);
        assert_eq!(begun(&mut kept.over_after(0)), [20, 10]);
        assert_eq!(begun(&mut kept.over_after(50)), [20]);
        assert_eq!(kept.last_over_by(59), Some(50));
        assert_eq!(kept.last_over_by(49), None);
    }

    #[test]
    fn what_is_over_goes_before_what_is_not() {
        let mut kept = kept(&[10, 20]);
        end(&mut kept, 20, 30);
        assert_eq!(kept.add(Made(40, None), 2), Some(Made(20, Some(30))));
        assert_eq!(kept.add(Made(50, None), 2), Some(Made(10, None)));
    }

    #[test]
    fn what_is_old_is_dropped_and_told_where_it_was_under_way() {
        let mut kept = kept(&[10, 20, 30]);
        end(&mut kept, 20, 25);
        assert_eq!(kept.drop_before(26, 15), [Made(10, None)]);
        assert_eq!(kept.all().count(), 1);
    }
}
