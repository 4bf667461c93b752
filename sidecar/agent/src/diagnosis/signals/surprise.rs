//! Sequences that the models did not expect, for long enough and often enough to be a change of
//! behaviour rather than a rare path.

use std::collections::{BTreeMap, VecDeque};

use stethos_patterns::Window;

use crate::diagnosis::signal::{Kind, Normal, Place, Signal, Standing};
use crate::record::{ContainerIndex, Nanos};
use crate::sequential::SECOND;

/// A change has to last this many seconds: no quarter of them may be as usual.
const LASTS: u64 = 12;
/// Seconds that are remembered.
const SPAN: u64 = 120;
/// Share of windows that has to be surprising; more when the load is not the learned one,
/// because batching changes sequences as well.
const SHARE: f64 = 0.25;
const SHARE_AT_OTHER_LOAD: f64 = 0.5;
const MIN_WINDOWS: u64 = 20;
const MIN_EXCESS: u64 = 12;
/// Windows of a second count at most this much, nats: they are not independent.
const SECOND_CAP: f64 = 3.0;

#[derive(Debug, Default)]
pub(crate) struct Surprise {
    containers: BTreeMap<ContainerIndex, VecDeque<Slice>>,
}

#[derive(Clone, Copy, Debug)]
struct Slice {
    second: u64,
    windows: u64,
    excess: u64,
}

/// A change of behaviour.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Change {
    since_ns: Nanos,
    /// Share of windows now above their limit.
    share: f64,
    /// Nats.
    evidence: f64,
}

impl Surprise {
    /// Judges one window. `limit`: evidence at which a change opens an incident.
    pub(crate) fn judge(
        &mut self,
        window: &Window,
        excess: bool,
        false_alarm_rate: f64,
        usual_load: bool,
        limit: f64,
    ) -> Option<Signal> {
        let end_ns = window.end_ns();
        let change = self.observe(
            window.container,
            end_ns,
            excess,
            false_alarm_rate,
            usual_load,
        )?;
        let place = Place {
            container: window.container,
            pid: window.pid,
            tid: window.tid,
            fd: -1,
            start_ns: change.since_ns,
            end_ns,
        };
        let standing = if change.evidence >= limit {
            Standing::Opens
        } else {
            Standing::Symptom
        };
        let normal = Normal::Share {
            calibrated: false_alarm_rate,
            now: change.share,
        };
        let signal = Signal::at(place, Kind::Surprise, "sequence:unexpected").against(normal);
        Some(signal.standing(standing, (change.evidence / 2.0).min(8.0)))
    }

    /// Counts one judged window. `false_alarm_rate` is the calibrated share of normal windows
    /// above their limit.
    fn observe(
        &mut self,
        container: ContainerIndex,
        at_ns: Nanos,
        excess: bool,
        false_alarm_rate: f64,
        usual_load: bool,
    ) -> Option<Change> {
        let second = at_ns / SECOND;
        let slices = self.containers.entry(container).or_default();
        match slices.back_mut() {
            Some(last) if last.second >= second => {
                last.windows += 1;
                last.excess += u64::from(excess);
            }
            _ => slices.push_back(Slice {
                second,
                windows: 1,
                excess: u64::from(excess),
            }),
        }
        while slices
            .front()
            .is_some_and(|s| s.second.saturating_add(SPAN) < second)
        {
            slices.pop_front();
        }
        if !excess {
            return None;
        }
        let needed = if usual_load {
            SHARE
        } else {
            SHARE_AT_OTHER_LOAD
        };
        let recent = last_windows(slices, second)?;
        let share = share_of(&recent);
        let quarter = recent.len().div_ceil(4);
        let sustained = recent.chunks(quarter).all(|part| share_of(part) >= needed);
        let (windows, excess) = totals(&recent);
        let span = second.saturating_sub(recent.first()?.second);
        if !sustained || windows < MIN_WINDOWS || excess < MIN_EXCESS || span + 1 < LASTS {
            return None;
        }
        let p0 = (2.0 * false_alarm_rate).clamp(0.01, 0.2);
        let evidence = recent
            .iter()
            .map(|s| evidence_of(s, p0, needed.max(0.3)))
            .sum::<f64>();
        let since = recent.iter().find(|s| s.excess > 0)?.second;
        Some(Change {
            since_ns: since.saturating_mul(SECOND),
            share,
            evidence,
        })
    }

    pub(crate) fn reset(&mut self, container: ContainerIndex) {
        self.containers.remove(&container);
    }
}

/// The slices of the last [`LASTS`] seconds, or of as many more as it takes to have enough
/// windows.
fn last_windows(slices: &VecDeque<Slice>, now: u64) -> Option<Vec<Slice>> {
    let mut taken = Vec::new();
    let mut windows = 0;
    for slice in slices.iter().rev() {
        let within = slice.second.saturating_add(LASTS) > now;
        if !within && windows >= MIN_WINDOWS {
            break;
        }
        windows += slice.windows;
        taken.push(*slice);
    }
    taken.reverse();
    (taken.len() > 1).then_some(taken)
}

fn totals(slices: &[Slice]) -> (u64, u64) {
    slices
        .iter()
        .fold((0, 0), |(w, e), s| (w + s.windows, e + s.excess))
}

fn share_of(slices: &[Slice]) -> f64 {
    let (windows, excess) = totals(slices);
    excess as f64 / windows.max(1) as f64
}

fn evidence_of(slice: &Slice, p0: f64, p1: f64) -> f64 {
    let (hits, misses) = (slice.excess as f64, (slice.windows - slice.excess) as f64);
    let ratio = hits * (p1 / p0).ln() + misses * ((1.0 - p1) / (1.0 - p0)).ln();
    ratio.clamp(-SECOND_CAP, SECOND_CAP)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seconds: u64, per_second: u64, surprising: impl Fn(u64, u64) -> bool) -> Option<u64> {
        let mut surprise = Surprise::default();
        for second in 0..seconds {
            for i in 0..per_second {
                let at = (100 + second) * SECOND + i * SECOND / per_second;
                if surprise
                    .observe(0, at, surprising(second, i), 0.001, true)
                    .is_some()
                {
                    return Some(second);
                }
            }
        }
        None
    }

    #[test]
    fn a_lasting_change_is_found_after_ten_seconds() {
        let found = run(60, 40, |second, i| second >= 20 && i % 2 == 0).unwrap();
        assert!((25..=32).contains(&found), "{found}");
    }

    #[test]
    fn a_burst_and_a_rare_path_are_not() {
        assert_eq!(run(60, 40, |second, _| (20..24).contains(&second)), None);
        assert_eq!(run(120, 40, |_, i| i % 8 == 0), None);
    }

    #[test]
    fn low_traffic_is_judged_in_windows() {
        assert_eq!(run(5, 1, |_, _| true), None);
        assert!(run(60, 1, |_, _| true).is_some_and(|second| second >= 19));
    }
}
