//! How much of the time somebody on the machine waited for a processor.
//!
//! A sidecar that says so in normal time is right when it was so: pods of a lab that is crowded, or
//! whose machine does other work, are not at their normal.

use std::fs;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::record::FalseAlarm;

const FILE: &str = "/proc/pressure/cpu";
/// Seconds between two looks.
const EVERY: f64 = 1.0;
/// Seconds before an alarm that are looked at.
const BEFORE: f64 = 10.0;
/// Share of the time from which on processors are short.
const SHORT: f64 = 0.5;
const CONTENTION: &str = "cpu.contention";

/// `(seconds since 1970, µs in which somebody waited, since the machine's start)`, a second apart.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Pressure(Vec<(f64, u64)>);

impl Pressure {
    /// Looks if it is time to.
    pub(super) fn look(&mut self, now: f64) -> Result<()> {
        if self.0.last().is_none_or(|(at, _)| now - at >= EVERY) {
            let text = fs::read_to_string(FILE).context(FILE)?;
            self.0.push((now, total(&text).context(FILE)?));
        }
        Ok(())
    }

    /// Share of the seconds before `at` in which somebody waited; none where nobody looked.
    pub(super) fn before(&self, at: f64) -> Option<f64> {
        let last = self.0.iter().rev().find(|(time, _)| *time <= at)?;
        let first = self.0.iter().find(|(time, _)| *time >= at - BEFORE)?;
        let seconds = last.0 - first.0;
        let waited = last.1.saturating_sub(first.1) as f64 / 1e6;
        (seconds >= EVERY).then(|| (waited / seconds).min(1.0))
    }

    /// Seconds between `from` and `to` in which processors were short.
    pub(super) fn short_seconds(&self, from: f64, to: f64) -> f64 {
        let spans = self.0.windows(2).filter(|span| {
            let (start, end) = (span[0].0, span[1].0);
            start >= from && end <= to && self.before(end).is_some_and(|share| share >= SHORT)
        });
        spans.map(|span| span[1].0 - span[0].0).sum()
    }
}

/// An alarm that says of the machine what was so.
pub(super) fn is_true_of_machine(alarm: &FalseAlarm) -> bool {
    alarm.class == CONTENTION && alarm.machine_waits.is_some_and(|share| share >= SHORT)
}

/// Of `some avg10=0.00 avg60=0.00 avg300=0.00 total=7`.
fn total(text: &str) -> Option<u64> {
    let some = text.lines().find(|line| line.starts_with("some "))?;
    some.rsplit_once("total=")?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_of_the_first_line_is_read() {
        let text = "some avg10=0.27 avg60=9.95 avg300=15.13 total=28697\nfull avg10=0 total=9\n";
        assert_eq!(total(text), Some(28697));
        assert_eq!(total("full avg10=0.00 total=9\n"), None);
        assert_eq!(total(""), None);
    }

    /// Nobody waits until 20, then somebody for nine tenths of the time.
    fn pressure() -> Pressure {
        let waited = |second: u32| u64::from(second.saturating_sub(20)) * 900_000;
        Pressure((0..=40).map(|s| (f64::from(s), waited(s))).collect())
    }

    #[test]
    fn the_seconds_before_are_looked_at() {
        let pressure = pressure();
        assert_eq!(pressure.before(15.0), Some(0.0));
        assert_eq!(pressure.before(25.5), Some(0.5));
        assert_eq!(pressure.before(35.0), Some(0.9));
        assert_eq!(pressure.before(0.0), None);
        assert_eq!(Pressure::default().before(5.0), None);
    }

    #[test]
    fn seconds_in_which_processors_were_short_are_added_up() {
        assert_eq!(pressure().short_seconds(0.0, 20.0), 0.0);
        // From the sixth of them on, more than half of ten seconds.
        assert_eq!(pressure().short_seconds(0.0, 40.0), 15.0);
    }

    #[test]
    fn only_contention_is_true_of_the_machine() {
        let alarm = |class: &str, machine_waits| FalseAlarm {
            at: 0.0,
            class: class.to_owned(),
            confidence: None,
            message: String::new(),
            machine_waits,
        };
        assert!(is_true_of_machine(&alarm("cpu.contention", Some(0.7))));
        assert!(!is_true_of_machine(&alarm("cpu.contention", Some(0.3))));
        assert!(!is_true_of_machine(&alarm("cpu.contention", None)));
        assert!(!is_true_of_machine(&alarm("disk.slow", Some(0.9))));
    }
}
