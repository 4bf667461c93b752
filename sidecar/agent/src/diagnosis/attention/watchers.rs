//! What stands in for the tests of diagnosis while calls are only counted.

use std::collections::BTreeMap;

use stethos_patterns::{Outcome, Role, Token};

use crate::diagnosis::reference::{Limit, Reference};
use crate::diagnosis::signals::MAX_KEYS;
use crate::diagnosis::signals::descriptors::opens;
use crate::record::{CallCounts, ContainerIndex, CountedKind, TimedExchange};
use crate::sequential::ShareTest;

/// Evidence that is enough to look closer, nats.
const ENOUGH: f64 = 4.0;
/// Slow exchanges with one peer within a second that are enough by themselves, where they are
/// also this share of the second's before.
const AT_ONCE: (u64, f64) = (10, 0.2);
/// Share of slow ones that is tested against; of the own answers, of which one kind may be slow.
const SLOW: f64 = 0.4;
const SLOW_SERVICE: f64 = 0.12;

/// Whose exchanges: a peer's, or the container's own.
type Exchanges = (ContainerIndex, Option<String>);

#[derive(Debug, Default)]
pub(super) struct Watchers {
    pub(super) found: Option<&'static str>,
    exchanges: BTreeMap<Exchanges, Watched>,
    files: BTreeMap<(ContainerIndex, Token), (Watched, Limit)>,
    errors: BTreeMap<(ContainerIndex, Token), ShareTest>,
    /// Descriptors opened and not closed.
    open: BTreeMap<ContainerIndex, u64>,
}

#[derive(Debug, Default)]
struct Watched {
    /// Since counts came last.
    slow: u64,
    /// All that came with the last counts.
    last: u64,
    test: Option<ShareTest>,
}

impl Watched {
    fn observe(&mut self, at_ns: u64, all: u64, (p0, p1): (f64, f64)) -> f64 {
        let slow = std::mem::take(&mut self.slow);
        self.last = all;
        let test = self.test.get_or_insert_with(ShareTest::new);
        test.observe_many(at_ns, slow, all.saturating_sub(slow), p0, p1.max(2.0 * p0))
    }
}

impl Watchers {
    /// Calls are only counted from now on.
    pub(super) fn begin(&mut self) {
        *self = Self::default();
    }

    /// A second is over.
    pub(super) fn second(&mut self) {
        if self.files.len() > MAX_KEYS || self.exchanges.len() > MAX_KEYS {
            self.begin();
        }
    }

    /// A call on a file took longer than it may.
    pub(super) fn slow(&mut self, container: ContainerIndex, token: Token, normal: Limit) {
        let watched = self
            .files
            .entry((container, token))
            .or_insert_with(|| (Watched::default(), normal));
        watched.0.slow += 1;
    }

    /// An exchange was told of: slow, failed or without an answer.
    pub(super) fn exchange(&mut self, timed: &TimedExchange, model: &Reference) {
        let exchange = &timed.exchange;
        if exchange.failed.is_some() || exchange.received_ns == 0 {
            return;
        }
        let (peer, limit) = match exchange.role {
            Role::Server => (None, model.service_limit()),
            _ => {
                let peer = exchange.peer.clone().unwrap_or_default();
                let limit = model.exchange_limit(&peer);
                (Some(peer), limit)
            }
        };
        if limit.is_none_or(|limit| exchange.duration_ns() <= limit.ceiling_ns) {
            return;
        }
        let watched = self.exchanges.entry((timed.container, peer)).or_default();
        watched.slow += 1;
        let (times, share) = AT_ONCE;
        let usual = watched.last > 0;
        if usual && watched.slow >= times && watched.slow as f64 >= share * watched.last as f64 {
            self.found = Some("answers are slow");
        }
    }

    pub(super) fn counts(&mut self, counts: &CallCounts, model: &Reference) {
        self.descriptors(counts, model);
        for row in &counts.rows {
            let evidence = match &row.kind {
                CountedKind::Answers { peer } => {
                    let limit = model.exchange_limit(peer);
                    self.slow_exchanges(counts, Some(peer.clone()), limit, row.count)
                }
                CountedKind::Service => {
                    self.slow_exchanges(counts, None, model.service_limit(), row.count)
                }
                CountedKind::Call(token) => self.calls(counts, *token, row.count, model),
            };
            if evidence > ENOUGH {
                self.found = Some(match row.kind {
                    CountedKind::Call(token) if token.outcome.is_error() => "more calls fail",
                    CountedKind::Call(_) => "calls on files are slow",
                    _ => "answers are slow",
                });
            }
        }
    }

    /// More stay open than learning saw open at all.
    fn descriptors(&mut self, counts: &CallCounts, model: &Reference) {
        let (mut opened, mut closed) = (0, 0);
        for row in &counts.rows {
            match row.kind {
                CountedKind::Call(token) if token.outcome != Outcome::Ok => {}
                CountedKind::Call(token) if model.table.is_close(token.call) => closed += row.count,
                CountedKind::Call(token) if opens(model.table, token.call) => opened += row.count,
                _ => {}
            }
        }
        let open = self.open.entry(counts.container).or_default();
        *open = open.saturating_add(opened).saturating_sub(closed);
        if model
            .highest_descriptor()
            .is_some_and(|highest| *open > highest)
        {
            *open = 0;
            self.found = Some("more descriptors are opened than closed");
        }
    }

    /// A process ended, and with it what it had open.
    pub(super) fn ended(&mut self, container: ContainerIndex) {
        self.open.remove(&container);
    }

    fn slow_exchanges(
        &mut self,
        counts: &CallCounts,
        whose: Option<String>,
        limit: Option<Limit>,
        all: u64,
    ) -> f64 {
        let Some(limit) = limit else { return 0.0 };
        let p1 = if whose.is_none() { SLOW_SERVICE } else { SLOW };
        let watched = self.exchanges.entry((counts.container, whose)).or_default();
        watched.observe(counts.at_ns, all, (limit.p0, p1))
    }

    fn calls(&mut self, counts: &CallCounts, token: Token, count: u64, model: &Reference) -> f64 {
        let key = (counts.container, token);
        if !token.outcome.is_error() {
            return match self.files.get_mut(&key) {
                Some((watched, limit)) => watched.observe(counts.at_ns, count, (limit.p0, SLOW)),
                None => 0.0,
            };
        }
        let of_call = counts.rows.iter().filter_map(|row| match row.kind {
            CountedKind::Call(other) if other.call == token.call => Some(row.count),
            _ => None,
        });
        let attempts: u64 = of_call.sum();
        let (failed, of) = (model.outcomes(token), model.attempts(token.call));
        let p0 = 2.0 * (failed as f64 + 1.0) / (of as f64 + 2.0);
        let p1 = (5.0 * p0).max(0.1);
        if p1 >= 0.97 {
            return 0.0;
        }
        let test = self.errors.entry(key).or_insert_with(ShareTest::new);
        test.observe_many(counts.at_ns, count, attempts.saturating_sub(count), p0, p1)
    }
}
