//! Memory that is taken and never given back.
//!
//! With load, and at a start, a level rises and stays; where memory leaks, it climbs from second to
//! second, or from minute to minute, beyond all that learning saw, and faster than it grew then.

use std::collections::BTreeMap;

use stethos_patterns::baseline::{Resources, Used};

use super::RESTLESS;
use super::climb::{Climb, Climbed};
use super::resources::Judged;
use crate::diagnosis::signal::{Kind, Normal, Place, Signal, Standing};
use crate::record::{ContainerIndex, Nanos};
use crate::sequential::SECOND;

/// A level is followed by seconds, and by spans of so many seconds.
const SCALES: [u64; 2] = [1, 30];
/// It climbs for so long, or for half of the way to its limit.
const LASTS: Nanos = 20 * SECOND;
/// Bytes, and share of the learned level, that it climbs beyond that level at least.
const LEAST: u64 = 16 << 20;
const SHARE: f64 = 0.5;
/// In multiples of the learned growth.
const FASTER: f64 = 8.0;
/// What is left at this rate is little.
const SOON: Nanos = 60 * SECOND;
/// Share of the highest level below which it was given back.
const GIVEN_BACK: f64 = 0.8;

#[derive(Debug, Default)]
pub(crate) struct Memory {
    containers: BTreeMap<ContainerIndex, Level>,
}

#[derive(Debug)]
struct Level {
    climbs: [Climb; 2],
    highest: u64,
}

impl Memory {
    pub(crate) fn judge(
        &mut self,
        container: ContainerIndex,
        used: &Used,
        most: Option<u64>,
        learned: &Resources,
        load: f64,
        limit: f64,
    ) -> Judged {
        let Some(now) = used.memory.filter(|_| learned.memory > 0) else {
            return Judged::Unclear;
        };
        let at_ns = used.to_ns;
        let level = self.containers.entry(container).or_insert_with(|| Level {
            climbs: SCALES.map(|seconds| Climb::new(at_ns / seconds, now)),
            highest: now,
        });
        level.highest = level.highest.max(now);
        let scales = SCALES.into_iter().zip(&mut level.climbs);
        let climbed = scales.filter_map(|(seconds, climb)| {
            let climbed = climb.observe(at_ns / seconds, now)?;
            let since_ns = climbed.since_ns.saturating_mul(seconds);
            Some(Climbed {
                since_ns,
                ..climbed
            })
        });
        let signals = climbed.filter_map(|climbed| {
            let leak = Leak::new(climbed, at_ns, now, most);
            (leak.is_more_than(learned, load)).then(|| leak.signal(container, learned, limit))?
        });
        // The longer it climbs, the more is said by it.
        if let Some(signal) = signals.max_by_key(|signal| signal.standing) {
            return Judged::Signal(signal);
        }
        let climbs = level.climbs.iter().any(|climb| climb.evidence() > 0.0);
        if !climbs || (now as f64) < GIVEN_BACK * level.highest as f64 {
            level.highest = now;
            return Judged::Normal(Kind::MemoryClimbs);
        }
        Judged::Unclear
    }

    pub(crate) fn reset(&mut self, container: ContainerIndex) {
        self.containers.remove(&container);
    }
}

struct Leak {
    climbed: Climbed,
    at_ns: Nanos,
    now: u64,
    most: Option<u64>,
    per_second: f64,
}

impl Leak {
    fn new(climbed: Climbed, at_ns: Nanos, now: u64, most: Option<u64>) -> Self {
        let seconds = at_ns.saturating_sub(climbed.since_ns) as f64 / SECOND as f64;
        let grown = now.saturating_sub(climbed.from);
        Leak {
            climbed,
            at_ns,
            now,
            most,
            per_second: grown as f64 / seconds.max(1.0),
        }
    }

    fn is_more_than(&self, learned: &Resources, load: f64) -> bool {
        let usual = learned.memory as f64 * load.max(1.0);
        // A process that starts climbs up to what is usual, however far that is.
        let grown = self.now as f64 - usual.max(self.climbed.from as f64);
        grown >= (SHARE * usual).max(LEAST as f64)
            && self.per_second >= FASTER * learned.memory_growth as f64
    }

    /// Until its limit, at this rate.
    fn left_ns(&self) -> Option<Nanos> {
        let left = self.most?.saturating_sub(self.now);
        Some((left as f64 * 1e9 / self.per_second.max(1.0)) as u64)
    }

    fn signal(&self, container: ContainerIndex, learned: &Resources, limit: f64) -> Option<Signal> {
        let since_ns = self.climbed.since_ns;
        let lasted = self.at_ns.saturating_sub(since_ns);
        let soon = self
            .left_ns()
            .is_some_and(|left| left < SOON.min(lasted.saturating_mul(3)));
        let evidence = self.climbed.evidence;
        let standing = match evidence {
            evidence if evidence >= limit && (lasted >= LASTS || soon) => Standing::Opens,
            evidence if evidence >= RESTLESS => Standing::Symptom,
            _ => return None,
        };
        let place = Place {
            container,
            pid: 0,
            tid: 0,
            fd: -1,
            start_ns: since_ns,
            end_ns: self.at_ns,
        };
        let normal = Normal::Memory {
            learned: learned.memory,
            from: self.climbed.from,
            now: self.now,
            per_second: self.per_second as u64,
            limit: self.most.zip(self.left_ns()),
        };
        let signal = Signal::at(place, Kind::MemoryClimbs, "memory:climbs").against(normal);
        Some(signal.standing(standing, evidence.min(12.0)))
    }
}
