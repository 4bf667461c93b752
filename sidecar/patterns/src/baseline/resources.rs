//! What a container uses of the machine in normal time.

use serde::{Deserialize, Serialize};

use crate::histogram::DurationHistogram;

/// Levels of memory that are kept while they are collected.
const LEVELS: usize = 1024;
/// Fewer levels have no growth.
const MIN_LEVELS: usize = 16;
/// A second in which its threads ran for less has no ratio.
const ENOUGH_RAN_NS: u64 = 1_000_000;

/// What was used between two looks, about a second apart.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Used {
    pub from_ns: u64,
    pub to_ns: u64,
    /// What its threads ran, together.
    pub ran_ns: u64,
    /// What they were ready to run, and did not; none where that is not known.
    pub ready_ns: Option<u64>,
    /// Periods of a limit of processor time, those among them that it cut, and for how long; none
    /// where that is not known.
    pub throttling: Option<(u64, u64, u64)>,
    /// Bytes of anonymous memory at the end.
    pub memory: Option<u64>,
}

impl Used {
    /// Ns that its threads were ready to run for each ms that they ran; none where they hardly ran.
    pub fn ready_per_ms(&self) -> Option<u64> {
        let ready = self.ready_ns.filter(|_| self.ran_ns >= ENOUGH_RAN_NS)?;
        Some((ready as f64 * 1e6 / self.ran_ns as f64) as u64)
    }

    pub fn seconds(&self) -> f64 {
        self.to_ns.saturating_sub(self.from_ns) as f64 / 1e9
    }
}

/// Figures of normal time; all 0 where they are not known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Time that was looked at.
    pub observed_ns: u64,
    pub ran_ns: u64,
    /// What threads ran in the busiest second, in ns a second.
    pub most_ran: u64,
    /// [`Used::ready_per_ms`] of the seconds that have it.
    pub ready: DurationHistogram,
    pub periods: u64,
    pub throttled: u64,
    pub throttled_ns: u64,
    /// Bytes of anonymous memory at most.
    pub memory: u64,
    /// Bytes a second that it grew at the end.
    pub memory_growth: u64,
}

impl Resources {
    pub(super) fn merge(&mut self, other: &Resources) {
        self.observed_ns = self.observed_ns.saturating_add(other.observed_ns);
        self.ran_ns = self.ran_ns.saturating_add(other.ran_ns);
        self.most_ran = self.most_ran.max(other.most_ran);
        self.ready.merge(&other.ready);
        self.periods = self.periods.saturating_add(other.periods);
        self.throttled = self.throttled.saturating_add(other.throttled);
        self.throttled_ns = self.throttled_ns.saturating_add(other.throttled_ns);
        self.memory = self.memory.max(other.memory);
        self.memory_growth = self.memory_growth.max(other.memory_growth);
    }
}

/// Collects them.
#[derive(Debug, Default)]
pub(super) struct Collecting {
    all: Resources,
    /// Time and bytes of one look in `2^thinned`.
    levels: Vec<(u64, u64)>,
    thinned: u32,
    looks: u64,
}

impl Collecting {
    pub(super) fn used(&mut self, used: &Used) {
        let all = &mut self.all;
        let seconds = used.seconds();
        all.observed_ns += used.to_ns.saturating_sub(used.from_ns);
        all.ran_ns += used.ran_ns;
        if seconds > 0.5 {
            all.most_ran = all.most_ran.max((used.ran_ns as f64 / seconds) as u64);
        }
        if let Some(ready) = used.ready_per_ms() {
            all.ready.record(ready);
        }
        if let Some((periods, throttled, throttled_ns)) = used.throttling {
            all.periods += periods;
            all.throttled += throttled;
            all.throttled_ns += throttled_ns;
        }
        if let Some(memory) = used.memory {
            all.memory = all.memory.max(memory);
            self.level(used.to_ns, memory);
        }
    }

    fn level(&mut self, at_ns: u64, memory: u64) {
        if self.looks.is_multiple_of(1 << self.thinned) {
            if self.levels.len() >= LEVELS {
                let mut number = 0;
                self.levels.retain(|_| {
                    number += 1;
                    number % 2 == 1
                });
                self.thinned += 1;
            }
            self.levels.push((at_ns, memory));
        }
        self.looks += 1;
    }

    pub(super) fn finish(mut self) -> Resources {
        self.all.memory_growth = growth(&self.levels).unwrap_or(0);
        self.all
    }
}

/// From the middle of the third quarter to that of the last one: a start that takes what it needs
/// is over by then.
fn growth(levels: &[(u64, u64)]) -> Option<u64> {
    if levels.len() < MIN_LEVELS {
        return None;
    }
    let quarter = levels.len() / 4;
    let (third, last) = levels[levels.len() - 2 * quarter..].split_at(quarter);
    let median = |part: &[(u64, u64)]| {
        let mut levels: Vec<u64> = part.iter().map(|(_, level)| *level).collect();
        levels.sort_unstable();
        levels[levels.len() / 2]
    };
    let seconds = last[quarter / 2].0.saturating_sub(third[quarter / 2].0) as f64 / 1e9;
    let grown = median(last).saturating_sub(median(third)) as f64;
    (seconds > 0.0).then(|| (grown / seconds) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const MIB: u64 = 1 << 20;

    fn collect(seconds: u64, memory: impl Fn(u64) -> u64) -> Resources {
        let mut collecting = Collecting::default();
        for second in 0..seconds {
            collecting.used(&Used {
                from_ns: second * SECOND,
                to_ns: (second + 1) * SECOND,
                ran_ns: 10_000_000 * (1 + second % 3),
                ready_ns: Some(5_000_000),
                throttling: Some((10, 1, 2_000)),
                memory: Some(memory(second)),
            });
        }
        collecting.finish()
    }

    #[test]
    fn a_second_is_a_share_of_the_whole() {
        let all = collect(60, |_| 30 * MIB);
        assert_eq!((all.periods, all.throttled), (600, 60));
        assert_eq!((all.observed_ns, all.ran_ns), (60 * SECOND, 1_200_000_000));
        assert_eq!(all.most_ran, 30_000_000);
        // 5 ms for 10, 20 and 30 ms that they ran.
        assert_eq!(all.ready.count(), 60);
        let median = all.ready.quantile(0.5) as f64;
        assert!((median / 250_000.0 - 1.0).abs() < 0.1, "{median}");
    }

    #[test]
    fn growth_is_that_of_the_end() {
        // A start that fills up to a plateau, also over hours, of which not every look is kept.
        for seconds in [60, 20_000] {
            let plateau = collect(seconds, |second| (5 + second.min(seconds / 3)) * MIB);
            assert_eq!(plateau.memory_growth, 0);
            assert_eq!(plateau.memory, (5 + seconds / 3) * MIB);
            let grows = collect(seconds, |second| (5 + second) * MIB);
            let share = grows.memory_growth as f64 / MIB as f64;
            assert!((share - 1.0).abs() < 0.2, "{share}");
        }
        assert_eq!(collect(10, |second| second * MIB).memory_growth, 0);
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let mut collecting = Collecting::default();
        collecting.used(&Used {
            to_ns: SECOND,
            ran_ns: 5,
            ready_ns: Some(9_000_000),
            ..Used::default()
        });
        let all = collecting.finish();
        assert_eq!((all.ready.count(), all.periods, all.memory), (0, 0, 0));
    }
}
