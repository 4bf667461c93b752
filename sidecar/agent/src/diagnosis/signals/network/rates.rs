//! What the counters of a network namespace say.

use crate::diagnosis::signal::Normal;
use crate::diagnosis::signals::RESTLESS;
use crate::record::{Nanos, NetworkState};
use crate::sequential::{SECOND, ShareTest};

/// Share of segments sent again that is normal where nothing was learned, and the least that is
/// tested against.
const USUAL: f64 = 0.005;
const LOST: f64 = 0.01;
/// Evidence that other segments are lost than those that ask for a connection, nats.
const BESIDE: f64 = 4.0;
/// In multiples of the normal share.
const MORE: f64 = 5.0;
const LASTS: Nanos = 2 * SECOND;
/// Messages that there is no way are others when none came for this long.
const QUIET: Nanos = 10 * SECOND;

#[derive(Debug)]
pub(super) struct Rates {
    before: Option<NetworkState>,
    lost: ShareTest,
    /// With those that ask for a connection.
    lost_any: ShareTest,
    queued: ShareTest,
    limit: f64,
    /// When messages began to come that there is no way, and when they last did.
    no_way: Option<(Nanos, Nanos)>,
    learned: Option<f64>,
}

impl Default for Rates {
    fn default() -> Self {
        Rates {
            before: None,
            lost: ShareTest::new(),
            lost_any: ShareTest::new(),
            queued: ShareTest::new(),
            limit: f64::INFINITY,
            no_way: None,
            learned: None,
        }
    }
}

/// Since when a share is higher than learned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Higher {
    pub(super) from_ns: Nanos,
    pub(super) evidence: f64,
    pub(super) normal: Normal,
}

impl Rates {
    /// `learned`: share of segments sent again in normal time.
    pub(super) fn take(&mut self, state: &NetworkState, learned: Option<f64>, limit: f64) {
        if state.counters.is_none() {
            return;
        }
        (self.learned, self.limit) = (learned, limit);
        let now = NetworkState {
            sockets: Vec::new(),
            ..state.clone()
        };
        let before = self.before.replace(now);
        let Some(counted) = before.and_then(|before| state.since(&before)) else {
            return;
        };
        if counted.unreachable > 0 || counted.no_route > 0 {
            let known = self
                .no_way
                .filter(|(_, last)| state.at_ns.saturating_sub(*last) < QUIET);
            self.no_way = Some((known.map_or(state.at_ns, |(first, _)| first), state.at_ns));
        }
        // That somebody got something twice says nothing of why: what acknowledged it may be lost, or late.
        let lost = counted.again();
        let lost_any = lost.saturating_add(counted.syn_again);
        let queued = counted.still_queued;
        let p0 = learned.map_or(USUAL, |share| (2.0 * share).clamp(0.002, 0.2));
        let p1 = (MORE * p0).clamp(LOST, 0.9);
        let tests = [
            (&mut self.lost, lost),
            (&mut self.lost_any, lost_any),
            (&mut self.queued, queued),
        ];
        for (test, hits) in tests {
            let misses = counted.sent.saturating_sub(hits);
            test.observe_many(state.at_ns, hits, misses, p0, p1);
        }
    }

    /// When segments began to be lost more than usual.
    pub(super) fn lost_since(&self) -> Option<Nanos> {
        self.lost.run().map(|run| run.first_ns)
    }

    /// None while segments stay on this machine: what is held back for long is sent again, too. A peer that
    /// takes no more connections makes them be asked for again; those count only where others are lost as well.
    pub(super) fn lost(&self, now: Nanos) -> Option<Higher> {
        let others = self.lost.evidence() >= BESIDE;
        let any = || self.higher(&self.lost_any, now).filter(|_| others);
        let lost = self.higher(&self.lost, now).or_else(any);
        lost.filter(|_| !self.may_queue())
    }

    /// When segments began to stay on this machine for longer than their timers ran.
    pub(super) fn queued(&self, now: Nanos) -> Option<Higher> {
        self.higher(&self.queued, now)
    }

    fn higher(&self, test: &ShareTest, now: Nanos) -> Option<Higher> {
        let run = test.run()?;
        let evidence = test.evidence();
        let lasts = run.last_ns.saturating_sub(run.first_ns) >= LASTS;
        let recent = now.saturating_sub(run.last_ns) <= LASTS;
        (evidence >= self.limit && lasts && recent).then_some(Higher {
            from_ns: run.first_ns,
            evidence,
            normal: self.share(),
        })
    }

    /// Of segments that are sent again: since they are more than usual, and as learned.
    pub(super) fn share(&self) -> Normal {
        Normal::Share {
            calibrated: self.learned.unwrap_or(USUAL),
            now: self.lost_any.run().map_or(0.0, |run| run.share()),
        }
    }

    /// Segments seem to stay on this machine.
    pub(super) fn may_queue(&self) -> bool {
        self.queued.evidence() > RESTLESS
    }

    /// Whether messages came since then, and none long before: some peers are never there.
    pub(super) fn no_way_since(&self, at_ns: Nanos) -> bool {
        let new =
            |(first, last): (Nanos, Nanos)| last >= at_ns && first >= at_ns.saturating_sub(QUIET);
        self.no_way.is_some_and(new)
    }

    pub(super) fn restless(&self) -> bool {
        self.lost.evidence() > RESTLESS || self.queued.evidence() > RESTLESS
    }
}
