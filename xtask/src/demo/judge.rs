//! Counts what Stethos said against what was injected.
//!
//! A fault is diagnosed by a confirmed diagnosis between its injection and the end of its grace,
//! and rightly when such a diagnosis puts an expected class first. A confirmed diagnosis at any
//! other time, of an incident that no fault explains, is a false alarm.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::GRACE;
use super::faults::Fault;
use crate::lab::Diagnosis;

#[derive(Default)]
pub(super) struct Judge {
    trials: Vec<Trial>,
    /// The trial that each confirmed incident belongs to; `None` for a false alarm.
    incidents: BTreeMap<String, Option<usize>>,
    false_alarms: usize,
}

struct Trial {
    fault: Fault,
    injected: Duration,
    restored: Option<Duration>,
    diagnosed: Option<Duration>,
    /// Classes that were put first, by confirmed diagnoses.
    classes: BTreeSet<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It belongs to the fault that is or was injected.
    Explained,
    FalseAlarm,
    /// A suspicion, or more about an incident that was judged before.
    Nothing,
}

impl Judge {
    pub(super) fn inject(&mut self, at: Duration, fault: Fault) {
        self.trials.push(Trial {
            fault,
            injected: at,
            restored: None,
            diagnosed: None,
            classes: BTreeSet::new(),
        });
    }

    pub(super) fn restore(&mut self, at: Duration) {
        if let Some(trial) = self.trials.last_mut() {
            trial.restored = Some(at);
        }
    }

    pub(super) fn hear(&mut self, at: Duration, diagnosis: &Diagnosis) -> Verdict {
        if diagnosis.state != "confirmed" {
            return Verdict::Nothing;
        }
        let current = self
            .trials
            .len()
            .checked_sub(1)
            .filter(|&last| self.trials[last].lasts(at));
        let known = self.incidents.get(&diagnosis.incident).copied();
        if let Some(last) = current {
            let trial = &mut self.trials[last];
            let expected = trial.fault.expected().contains(&diagnosis.class.as_str());
            // An incident of before goes on unless it now names this fault.
            if known.is_none() || known == Some(Some(last)) || expected {
                trial.diagnosed.get_or_insert(at);
                trial.classes.insert(diagnosis.class.clone());
                self.incidents
                    .insert(diagnosis.incident.clone(), Some(last));
                return Verdict::Explained;
            }
        }
        if known.is_some() {
            return Verdict::Nothing;
        }
        self.incidents.insert(diagnosis.incident.clone(), None);
        self.false_alarms += 1;
        Verdict::FalseAlarm
    }

    pub(super) fn missed_last(&self) -> bool {
        self.trials
            .last()
            .is_some_and(|trial| trial.diagnosed.is_none())
    }

    /// `watched` is the time since learning ended.
    pub(super) fn summary(&self, watched: Duration) -> Summary {
        let mut delays: Vec<Duration> = self
            .trials
            .iter()
            .filter_map(|trial| Some(trial.diagnosed?.saturating_sub(trial.injected)))
            .collect();
        delays.sort_unstable();
        let disturbed: Duration = self
            .trials
            .iter()
            .filter_map(|trial| Some(trial.restored? + GRACE - trial.injected))
            .sum();
        Summary {
            injected: self.trials.len(),
            diagnosed: delays.len(),
            right: self.trials.iter().filter(|trial| trial.is_right()).count(),
            false_alarms: self.false_alarms,
            normal: watched.saturating_sub(disturbed),
            median: delays.get(delays.len() / 2).copied(),
            wrong: self.trials.iter().filter_map(Trial::mistake).collect(),
        }
    }
}

impl Trial {
    fn lasts(&self, at: Duration) -> bool {
        at >= self.injected && self.restored.is_none_or(|restored| at <= restored + GRACE)
    }

    fn is_right(&self) -> bool {
        let expected = self.fault.expected();
        self.classes
            .iter()
            .any(|class| expected.contains(&class.as_str()))
    }

    fn mistake(&self) -> Option<String> {
        let expected = self.fault.expected().join(" or ");
        let told = self.fault.told();
        if self.diagnosed.is_none() {
            return Some(format!("missed: {told} ({expected})"));
        }
        let classes: Vec<&str> = self.classes.iter().map(String::as_str).collect();
        (!self.is_right()).then(|| {
            format!(
                "wrong class: {told} is {expected}, not {}",
                classes.join(", ")
            )
        })
    }
}

/// Prints as the demo's last words.
#[derive(Debug, PartialEq)]
pub(super) struct Summary {
    injected: usize,
    diagnosed: usize,
    right: usize,
    false_alarms: usize,
    /// Watched time outside faults and their grace.
    normal: Duration,
    /// From injection to the first confirmed diagnosis.
    median: Option<Duration>,
    wrong: Vec<String>,
}

impl Summary {
    pub(super) fn missed(&self) -> usize {
        self.injected - self.diagnosed
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mistake in &self.wrong {
            writeln!(out, "{mistake}")?;
        }
        write!(
            out,
            "{} of {} faults diagnosed, {} classes right, {} false alarms in {:.1} min normal",
            self.diagnosed,
            self.injected,
            self.right,
            self.false_alarms,
            self.normal.as_secs_f64() / 60.0
        )?;
        match self.median {
            Some(median) => write!(out, ", median {:.1} s", median.as_secs_f64()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(incident: &str, state: &str, class: &str) -> Diagnosis {
        Diagnosis {
            incident: incident.into(),
            state: state.into(),
            class: class.into(),
            ..Diagnosis::default()
        }
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// One fault at 100 s, restored at 115 s; its grace ends at 125 s.
    fn after_one_fault(heard: &[(u64, Diagnosis)]) -> Summary {
        let mut judge = Judge::default();
        let hear = |judge: &mut Judge, from: u64, to: u64| {
            for (at, diagnosis) in heard.iter().filter(|(at, _)| (from..to).contains(at)) {
                judge.hear(s(*at), diagnosis);
            }
        };
        hear(&mut judge, 0, 100);
        judge.inject(s(100), Fault::RedisStopped);
        hear(&mut judge, 100, 115);
        judge.restore(s(115));
        hear(&mut judge, 115, 1000);
        judge.summary(s(85))
    }

    fn counts(summary: &Summary) -> (usize, usize, usize) {
        (summary.diagnosed, summary.right, summary.false_alarms)
    }

    #[test]
    fn a_confirmed_expected_class_is_right() {
        let summary = after_one_fault(&[
            (101, said("a", "suspected", "dependency.reset")),
            (102, said("a", "confirmed", "dependency.refused")),
            (117, said("a", "resolved", "dependency.refused")),
        ]);
        assert_eq!(counts(&summary), (1, 1, 0));
        assert_eq!(
            (summary.missed(), summary.median, summary.normal),
            (0, Some(s(2)), s(60))
        );
    }

    #[test]
    fn a_wrong_class_is_diagnosed_and_not_right() {
        let summary = after_one_fault(&[(102, said("a", "confirmed", "unknown"))]);
        assert_eq!(counts(&summary), (1, 0, 0));
        assert_eq!(
            summary.wrong,
            ["wrong class: redis stopped is dependency.refused, not unknown"]
        );
    }

    #[test]
    fn a_suspicion_diagnoses_nothing_and_alarms_nobody() {
        let summary = after_one_fault(&[
            (50, said("x", "suspected", "unknown")),
            (102, said("a", "suspected", "dependency.refused")),
        ]);
        assert_eq!(counts(&summary), (0, 0, 0));
        assert_eq!(summary.missed(), 1);
    }

    #[test]
    fn what_no_fault_explains_is_one_false_alarm() {
        let summary = after_one_fault(&[
            (50, said("x", "confirmed", "unknown")),
            (52, said("x", "confirmed", "unknown")),
            (124, said("y", "confirmed", "dependency.refused")),
            (126, said("y", "confirmed", "dependency.refused")),
            (127, said("z", "confirmed", "disk.full")),
        ]);
        assert_eq!(counts(&summary), (1, 1, 2));
    }

    #[test]
    fn an_older_incident_counts_only_when_it_names_the_fault() {
        let older = (50, said("x", "confirmed", "unknown"));
        let unmoved = after_one_fault(&[older, (102, said("x", "confirmed", "unknown"))]);
        assert_eq!(counts(&unmoved), (0, 0, 1));
        let older = (50, said("x", "confirmed", "unknown"));
        let named = after_one_fault(&[older, (102, said("x", "confirmed", "dependency.refused"))]);
        assert_eq!(counts(&named), (1, 1, 1));
    }
}
