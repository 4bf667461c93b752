//! Holds what Stethos said against what was done to the pod.
//!
//! A fault is diagnosed by a confirmed diagnosis between its injection and the end of its grace;
//! rightly when the first of them puts a right class first. A confirmed diagnosis at any other time,
//! of an incident that no fault explains, is a false alarm.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::pressure::{Pressure, is_true_of_machine};
use super::record::{FalseAlarm, Judged, Outcome};
use crate::lab::Diagnosis;

/// A line of a diagnosis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Said {
    /// Seconds since 1970.
    pub(super) at: f64,
    pub(super) incident: String,
    pub(super) confirmed: bool,
    pub(super) class: String,
    pub(super) confidence: Option<f64>,
    /// Best first.
    pub(super) hypotheses: Vec<String>,
    pub(super) message: String,
    /// Calls that its incident has affected so far.
    pub(super) affected_calls: Option<u64>,
}

impl Said {
    /// `all` is the whole line of the diagnosis.
    pub(super) fn new(at: f64, diagnosis: Diagnosis, all: &Value) -> Self {
        Self {
            at,
            confirmed: diagnosis.state == "confirmed",
            affected_calls: field(all, "stethos.incident.affected_calls").and_then(Value::as_u64),
            hypotheses: hypotheses(all, &diagnosis.class),
            incident: diagnosis.incident,
            class: diagnosis.class,
            confidence: diagnosis.confidence,
            message: diagnosis.message,
        }
    }
}

/// When something was broken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Broken<'a> {
    pub(super) injected_at: f64,
    pub(super) affected_at: f64,
    /// With the grace after it was undone.
    pub(super) until: f64,
    pub(super) right: &'a [String],
}

/// What was watched from `from` to `to`.
pub(super) fn judge(
    said: &[Said],
    broken: Option<Broken>,
    (from, to): (f64, f64),
    pressure: &Pressure,
) -> Judged {
    let mut judged = Judged {
        normal_seconds: to - from,
        short_seconds: pressure.short_seconds(from, to),
        ..Judged::default()
    };
    if let Some(broken) = broken {
        judged.outcome = Outcome::Missed;
        judged.normal_seconds -= (broken.until.min(to) - broken.injected_at).max(0.0);
    }
    let during = |one: &Said| broken.filter(|b| (b.injected_at..=b.until).contains(&one.at));
    // Whether each confirmed incident belongs to the fault.
    let mut incidents: BTreeMap<&str, bool> = BTreeMap::new();
    for one in said.iter().filter(|one| one.confirmed && one.at >= from) {
        let known = incidents.get(one.incident.as_str()).copied();
        let alarm = FalseAlarm {
            at: one.at,
            class: one.class.clone(),
            confidence: one.confidence,
            message: one.message.clone(),
            machine_waits: pressure.before(one.at),
        };
        let current = during(one);
        let is_right = |broken: &Broken| broken.right.contains(&one.class);
        // What is true of the machine is not said of the fault.
        let current = current.filter(|broken| is_right(broken) || !is_true_of_machine(&alarm));
        if let Some(broken) = current {
            let is_right = is_right(&broken);
            // An incident of before goes on unless it now names this fault.
            if known.is_none() || known == Some(true) || is_right {
                incidents.insert(&one.incident, true);
                judged.right_at_last |= is_right;
                if judged.class.is_none() {
                    judged.outcome = if is_right {
                        Outcome::Right
                    } else {
                        Outcome::Wrong
                    };
                    judged.class = Some(one.class.clone());
                    judged.confidence = one.confidence;
                    judged.hypotheses = one.hypotheses.clone();
                    judged.delay_seconds = Some(since(broken, one.at));
                    judged.affected_calls = one.affected_calls;
                }
                continue;
            }
        }
        if known.is_none() {
            incidents.insert(&one.incident, false);
            judged.false_alarms.push(alarm);
        }
    }
    let right = |one: &&Said| during(one).is_some_and(|broken| broken.right.contains(&one.class));
    judged.first_word_seconds = said
        .iter()
        .find(right)
        .and_then(|one| Some(since(during(one)?, one.at)));
    let only_suspected = said
        .iter()
        .filter(|one| one.at >= from && during(one).is_none());
    let only_suspected = only_suspected.map(|one| one.incident.as_str());
    let only_suspected = only_suspected.filter(|incident| !incidents.contains_key(incident));
    judged.suspicions = only_suspected.collect::<BTreeSet<_>>().len();
    judged.incidents = incidents.values().filter(|of_fault| **of_fault).count();
    let is_false = |alarm: &FalseAlarm| !is_true_of_machine(alarm);
    if broken.is_none() && judged.false_alarms.iter().any(is_false) {
        judged.outcome = Outcome::Alarmed;
    }
    judged
}

/// Seconds since the fault was felt. It may be seen before any client feels it.
fn since(broken: Broken, at: f64) -> f64 {
    let felt = at >= broken.affected_at;
    at - if felt {
        broken.affected_at
    } else {
        broken.injected_at
    }
}

/// An attribute, as `stethos` prints it and as a log record has it.
fn field<'a>(line: &'a Value, key: &str) -> Option<&'a Value> {
    let places = [
        line.get(key),
        line.get("attributes").and_then(|all| all.get(key)),
    ];
    places.into_iter().flatten().next()
}

/// The classes of a diagnosis's hypotheses, best first.
fn hypotheses(line: &Value, class: &str) -> Vec<String> {
    let list = field(line, "stethos.fault.hypotheses").and_then(Value::as_array);
    let mut classes: Vec<String> = list
        .into_iter()
        .flatten()
        .filter_map(|one| {
            let text = one.as_str().or_else(|| one["class"].as_str())?;
            text.split([' ', '=', ':']).next().map(str::to_owned)
        })
        .collect();
    if !classes.iter().any(|one| one == class) {
        classes.insert(0, class.to_owned());
    }
    classes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(at: f64, incident: &str, confirmed: bool, class: &str) -> Said {
        Said {
            at,
            incident: incident.into(),
            confirmed,
            class: class.into(),
            confidence: Some(0.9),
            hypotheses: vec![class.into()],
            message: String::new(),
            affected_calls: Some(3),
        }
    }

    /// Watched from 10 to 200, broken from 100 to 130, first felt at 101.
    fn judged(said: &[Said]) -> Judged {
        let right = ["disk.full".to_owned()];
        let broken = Broken {
            injected_at: 100.0,
            affected_at: 101.0,
            until: 130.0,
            right: &right,
        };
        judge(said, Some(broken), (10.0, 200.0), &Pressure::default())
    }

    #[test]
    fn the_first_confirmed_diagnosis_counts() {
        let judged = judged(&[
            said(100.5, "a", false, "disk.full"),
            said(103.0, "a", true, "disk.full"),
            said(104.0, "b", true, "unknown"),
        ]);
        assert_eq!(judged.outcome, Outcome::Right);
        assert_eq!((judged.delay_seconds, judged.incidents), (Some(2.0), 2));
        // Suspected before anybody felt it.
        assert_eq!(judged.first_word_seconds, Some(0.5));
        assert_eq!((judged.affected_calls, judged.suspicions), (Some(3), 0));
        assert_eq!(
            (judged.false_alarms.len(), judged.normal_seconds),
            (0, 160.0)
        );
    }

    #[test]
    fn a_diagnosis_before_clients_feel_it_counts_from_the_injection() {
        let judged = judged(&[said(100.5, "a", true, "disk.full")]);
        assert_eq!(judged.delay_seconds, Some(0.5));
    }

    #[test]
    fn a_class_that_comes_right_later_is_wrong_at_first() {
        let judged = judged(&[
            said(102.0, "a", true, "unknown"),
            said(104.0, "a", true, "disk.full"),
        ]);
        assert_eq!(
            (judged.outcome, judged.right_at_last),
            (Outcome::Wrong, true)
        );
    }

    #[test]
    fn before_and_after_the_fault_it_is_a_false_alarm_once() {
        let judged = judged(&[
            said(50.0, "x", true, "unknown"),
            said(110.0, "x", true, "unknown"),
            said(140.0, "y", true, "disk.full"),
        ]);
        assert_eq!(
            (judged.outcome, judged.false_alarms.len()),
            (Outcome::Missed, 2)
        );
    }

    #[test]
    fn where_nothing_is_broken_silence_is_right() {
        let judge = |said: &[Said], from| judge(said, None, (from, 60.0), &Pressure::default());
        assert_eq!(judge(&[], 0.0).outcome, Outcome::Silent);
        let alarmed = judge(&[said(5.0, "a", true, "x")], 0.0);
        assert_eq!(
            (alarmed.outcome, alarmed.normal_seconds),
            (Outcome::Alarmed, 60.0)
        );
        let suspected = [("a", false), ("a", true), ("b", false), ("b", false)];
        let suspected = suspected.map(|(incident, sure)| said(5.0, incident, sure, "x"));
        assert_eq!(judge(&suspected, 0.0).suspicions, 1);
        let before = judge(&[said(5.0, "a", true, "x")], 10.0);
        assert_eq!(before.outcome, Outcome::Silent);
    }

    #[test]
    fn hypotheses_are_read_as_text_and_as_objects() {
        let line = json!({"stethos.fault.hypotheses": ["disk.full 0.9", "disk.quota 0.1"]});
        assert_eq!(hypotheses(&line, "disk.full"), ["disk.full", "disk.quota"]);
        let line = json!({"attributes": {"stethos.fault.hypotheses": [{"class": "a"}]}});
        assert_eq!(hypotheses(&line, "b"), ["b", "a"]);
    }
}
