//! The figures, from records.

use std::collections::{BTreeMap, BTreeSet};

use super::super::pressure::is_true_of_machine;
use super::super::record::{Outcome, Record};

/// The class of a trial in which nothing was confirmed.
pub(super) const MISSED: &str = "(missed)";

/// Of a group of faults.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Summary {
    pub(super) trials: usize,
    pub(super) detected: usize,
    /// The first confirmed diagnosis has a right class first.
    pub(super) top1: usize,
    /// A right class is among its first three.
    pub(super) top3: usize,
    /// A right class came first in some confirmed diagnosis.
    pub(super) at_last: usize,
    /// Of detected ones, seconds, in order.
    pub(super) delays: Vec<f64>,
    /// To the first diagnosis with a right class, suspected or confirmed.
    pub(super) first_words: Vec<f64>,
    /// Affected calls until the confirmation.
    pub(super) calls: Vec<f64>,
    pub(super) in_time: usize,
    /// The fault showed itself to clients or to its own script.
    pub(super) effective: usize,
    /// Confirmed incidents beyond the first.
    pub(super) further: usize,
}

impl Summary {
    pub(super) fn of<'r>(records: impl IntoIterator<Item = &'r Record>) -> Self {
        let mut summary = Self::default();
        for record in records.into_iter().filter(|record| is_fault(record)) {
            let judged = &record.judged;
            summary.trials += 1;
            summary.first_words.extend(judged.first_word_seconds);
            summary.effective += usize::from(record.effect.as_ref().is_some_and(|one| one.seen));
            if judged.class.is_none() {
                continue;
            }
            summary.detected += 1;
            summary.further += judged.incidents.saturating_sub(1);
            summary.top1 += usize::from(judged.outcome == Outcome::Right);
            summary.at_last += usize::from(judged.right_at_last);
            let mut first_three = judged.hypotheses.iter().take(3);
            summary.top3 += usize::from(first_three.any(|one| record.right_classes.contains(one)));
            summary
                .calls
                .extend(judged.affected_calls.map(|calls| calls as f64));
            if let Some(delay) = judged.delay_seconds {
                summary.delays.push(delay);
                let in_time = record.bound_seconds.is_some_and(|bound| delay <= bound);
                summary.in_time += usize::from(in_time);
            }
        }
        for values in [
            &mut summary.delays,
            &mut summary.first_words,
            &mut summary.calls,
        ] {
            values.sort_by(f64::total_cmp);
        }
        summary
    }

    pub(super) fn delay(&self, at: f64) -> Option<f64> {
        quantile(&self.delays, at)
    }
}

/// By nearest rank, of values in order.
pub(super) fn quantile(values: &[f64], at: f64) -> Option<f64> {
    let rank = (at * values.len() as f64).ceil() as usize;
    values.get(rank.max(1) - 1).copied()
}

/// Whether a record is that of a whole trial of a fault.
pub(super) fn is_fault(record: &Record) -> bool {
    record.error.is_none() && record.class.is_some()
}

/// `(injected, said)` → trials.
pub(super) fn confusion<'r>(
    records: impl IntoIterator<Item = &'r Record>,
) -> BTreeMap<(String, String), usize> {
    let mut counts = BTreeMap::new();
    for record in records.into_iter().filter(|record| is_fault(record)) {
        let injected = record.class.clone().unwrap_or_default();
        // A class that is right as well stands for the injected one.
        let said = match &record.judged.class {
            Some(_) if record.judged.outcome == Outcome::Right => injected.clone(),
            Some(said) => said.clone(),
            None => MISSED.to_owned(),
        };
        *counts.entry((injected, said)).or_default() += 1;
    }
    counts
}

/// The mean of the classes' F1; of the classes that were injected.
pub(super) fn macro_f1(confusion: &BTreeMap<(String, String), usize>) -> Option<f64> {
    let classes: BTreeSet<&String> = confusion.keys().map(|(injected, _)| injected).collect();
    let sum = |wanted: &dyn Fn(&str, &str) -> bool| -> f64 {
        let counts = confusion.iter().filter(|((i, s), _)| wanted(i, s));
        counts.map(|(_, count)| *count as f64).sum()
    };
    let f1 = |class: &str| {
        let right = sum(&|injected, said| injected == class && said == class);
        let other = sum(&|injected, said| (injected == class) != (said == class));
        2.0 * right / (2.0 * right + other)
    };
    let scores: Vec<f64> = classes.iter().map(|class| f1(class)).collect();
    (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64)
}

/// Of normal time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Normal {
    pub(super) hours: f64,
    pub(super) alarms: usize,
    /// Those that said of the machine what was so.
    pub(super) of_machine: usize,
    /// In which processors of the machine were short.
    pub(super) short_hours: f64,
    /// Incidents that were suspected, and not confirmed.
    pub(super) suspicions: usize,
}

impl Normal {
    pub(super) fn of<'r>(records: impl IntoIterator<Item = &'r Record>) -> Self {
        let whole = records.into_iter().filter(|record| record.error.is_none());
        whole.fold(Self::default(), |sum, record| {
            let judged = &record.judged;
            let all = judged.false_alarms.iter();
            let of_machine = all.filter(|one| is_true_of_machine(one)).count();
            Self {
                hours: sum.hours + judged.normal_seconds / 3600.0,
                alarms: sum.alarms + judged.false_alarms.len() - of_machine,
                of_machine: sum.of_machine + of_machine,
                suspicions: sum.suspicions + judged.suspicions,
                short_hours: sum.short_hours + judged.short_seconds / 3600.0,
            }
        })
    }

    /// Alarms in a day of one pod.
    pub(super) fn per_day(&self) -> f64 {
        24.0 * self.alarms as f64 / self.hours.max(1e-9)
    }

    /// At most so many, with 95 % confidence.
    pub(super) fn per_day_at_most(&self) -> f64 {
        24.0 * poisson_upper(self.alarms, 0.95) / self.hours.max(1e-9)
    }
}

/// The mean at which `count` or fewer come with a probability of `1 - confidence`.
pub(super) fn poisson_upper(count: usize, confidence: f64) -> f64 {
    let at_most = |mean: f64| {
        let mut term = (-mean).exp();
        let mut sum = term;
        for k in 1..=count {
            term *= mean / k as f64;
            sum += term;
        }
        sum
    };
    let (mut low, mut high) = (count as f64, 4.0 * count as f64 + 20.0);
    for _ in 0..80 {
        let middle = f64::midpoint(low, high);
        if at_most(middle) > 1.0 - confidence {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// Of the diagnoses whose stated confidence lies in a range.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Bin {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) count: usize,
    pub(super) right: usize,
    /// Sum of what was stated.
    pub(super) stated: f64,
}

const EDGES: [f64; 8] = [0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0];

/// First confirmed diagnoses, and false alarms, which are never right.
pub(super) fn reliability<'r>(records: impl IntoIterator<Item = &'r Record>) -> Vec<Bin> {
    let mut bins: Vec<Bin> = EDGES
        .windows(2)
        .map(|edge| Bin {
            from: edge[0],
            to: edge[1],
            ..Bin::default()
        })
        .collect();
    let mut add = |confidence: Option<f64>, is_right: bool| {
        let Some(stated) = confidence else { return };
        let last = bins.len() - 1;
        let index = bins.iter().position(|bin| stated < bin.to).unwrap_or(last);
        bins[index].count += 1;
        bins[index].right += usize::from(is_right);
        bins[index].stated += stated;
    };
    for record in records.into_iter().filter(|record| record.error.is_none()) {
        add(
            record.judged.confidence,
            record.judged.outcome == Outcome::Right,
        );
        let alarms = record.judged.false_alarms.iter();
        for alarm in alarms.filter(|one| !is_true_of_machine(one)) {
            add(alarm.confidence, false);
        }
    }
    bins.retain(|bin| bin.count > 0);
    bins
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
