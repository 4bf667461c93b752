//! Levels that climb and do not come down.

use crate::record::Nanos;
use crate::sequential::{SECOND, ShareTest};

/// Share of seconds whose level is higher than any before: as it comes by chance, and where
/// something leaks.
const RECORDS: (f64, f64) = (0.1, 0.9);

/// Of a second so many levels are looked at.
const LEVELS: usize = 256;

/// Follows the median level of each second: what comes and goes leaves it where it is.
#[derive(Debug)]
pub(crate) struct Climb {
    second: u64,
    levels: Vec<u64>,
    highest_before: u64,
    from: u64,
    test: ShareTest,
}

/// What a second that is over says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Climbed {
    pub(crate) from: u64,
    pub(crate) now: u64,
    /// When it began to climb.
    pub(crate) since_ns: Nanos,
    /// Nats.
    pub(crate) evidence: f64,
}

impl Climb {
    pub(crate) fn new(at_ns: Nanos, level: u64) -> Self {
        Climb {
            second: at_ns / SECOND,
            levels: vec![level],
            highest_before: level,
            from: level,
            test: ShareTest::new(),
        }
    }

    /// Takes the level at `at_ns`; gives what the second before says, if it set a record.
    pub(crate) fn observe(&mut self, at_ns: Nanos, level: u64) -> Option<Climbed> {
        let second = at_ns / SECOND;
        if second <= self.second {
            if self.levels.len() < LEVELS {
                self.levels.push(level);
            }
            return None;
        }
        self.levels.sort_unstable();
        let now = self.levels.get(self.levels.len() / 2).copied()?;
        let ended_ns = self.second.saturating_mul(SECOND);
        self.second = second;
        self.levels.clear();
        self.levels.push(level);
        if self.test.evidence() == 0.0 {
            self.from = self.highest_before;
        }
        let record = now > self.highest_before;
        self.highest_before = self.highest_before.max(now);
        let (p0, p1) = RECORDS;
        let evidence = self.test.observe(ended_ns, record, p0, p1);
        let run = self.test.run().filter(|_| record)?;
        Some(Climbed {
            from: self.from,
            now,
            since_ns: run.first_ns,
            evidence,
        })
    }

    /// That it climbs, nats.
    pub(crate) fn evidence(&self) -> f64 {
        self.test.evidence()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seconds: u64, level: impl Fn(u64) -> u64) -> f64 {
        let mut climb = Climb::new(0, level(0));
        let climbed = (0..seconds * 10).filter_map(|tenth| {
            let at_ns = tenth * SECOND / 10;
            climb.observe(at_ns, level(tenth))
        });
        climbed.map(|climbed| climbed.evidence).fold(0.0, f64::max)
    }

    #[test]
    fn what_climbs_is_found_within_seconds() {
        assert!(run(12, |tenth| 10 + tenth) > 17.0);
    }

    #[test]
    fn what_comes_and_goes_or_stays_higher_is_not() {
        assert!(run(600, |tenth| 10 + tenth * 7 % 40) < 6.0);
        assert!(run(600, |tenth| if tenth < 300 { 10 } else { 500 }) < 6.0);
    }
}
