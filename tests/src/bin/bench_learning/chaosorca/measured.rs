//! The figures of one method on one split.

use super::methods::{Method, Score};
use super::runs::Label;
use super::sample::{Sample, Stage};
use super::split::{Part, Split};
use crate::figures::Figures;
use crate::metrics::{auc, limit, share_above};

/// Share of held-back normal samples above the limit.
const RATE: f64 = 0.01;
const STAGES: [(Stage, &str); 3] = [
    (Stage::Early, "early"),
    (Stage::Partly, "partly"),
    (Stage::Whole, "whole"),
];
const LOADS: [(f64, &str); 2] = [(0.2, "fifth"), (5.0, "fivefold")];

pub(crate) struct Measured<'s> {
    split: &'s Split<'s>,
    score: &'s Score,
    name: String,
    /// Of every sample; none where there is no profile.
    scores: Vec<Option<f64>>,
    normal: Vec<f64>,
    limit: f64,
}

impl<'s> Measured<'s> {
    pub(crate) fn new(split: &'s Split<'s>, method: &'s Method) -> anyhow::Result<Self> {
        let is_scored = |sample: &&Sample| !method.of_profiles || sample.is_judged();
        let scored: Vec<&Sample> = split.samples.iter().filter(is_scored).collect();
        let mut values = (method.score)(&scored)?.into_iter();
        let score = |sample: &Sample| {
            if is_scored(&sample) {
                values.next()
            } else {
                None
            }
        };
        let mut measured = Measured {
            split,
            score: &method.score,
            name: format!("chaosorca.{}", method.name),
            scores: split.samples.iter().map(score).collect(),
            normal: Vec::new(),
            limit: f64::INFINITY,
        };
        measured.normal = measured.of(Part::Normal, |_| true);
        let held_back = measured.of(Part::HeldBack, |_| true);
        measured.limit = limit(&held_back, RATE).unwrap_or(f64::INFINITY);
        Ok(measured)
    }

    /// Scores of the samples of a part that are kept.
    pub(crate) fn of(&self, part: Part, keep: impl Fn(&Sample) -> bool) -> Vec<f64> {
        let all = self.split.samples.iter().zip(&self.scores);
        all.filter(|(sample, _)| self.split.part(sample) == part && keep(sample))
            .filter_map(|(_, score)| *score)
            .collect()
    }

    fn perturbed(&self, stage: Stage, keep: impl Fn(&Label) -> bool) -> Vec<f64> {
        let label = |sample: &Sample| &self.split.runs[sample.run].label;
        self.of(Part::Perturbed, |sample| {
            Stage::at(sample.at) == Some(stage) && keep(label(sample))
        })
    }

    /// Share of all perturbed samples above `limit`; without a profile nothing is found.
    fn found(&self, stage: Stage, limit: f64) -> Option<f64> {
        let scores = self.perturbed(stage, |_| true);
        let is_there = |sample: &&Sample| {
            self.split.part(sample) == Part::Perturbed && Stage::at(sample.at) == Some(stage)
        };
        let all = self.split.samples.iter().filter(is_there).count();
        Some(share_above(&scores, limit)? * scores.len() as f64 / all as f64)
    }

    /// Overall: what is found, and what is found without a fault.
    pub(crate) fn overall(&self, figures: &mut Figures) {
        let name = &self.name;
        for (stage, called) in STAGES {
            let area = auc(&self.normal, &self.perturbed(stage, |_| true));
            figures.add_with_spread(&format!("{name}.auc.{called}"), area, "AUC");
        }
        for (stage, called) in STAGES {
            let found = self.found(stage, self.limit);
            figures.add(&format!("{name}.found.{called}"), found, "of minutes");
        }
        let found = share_above(&self.normal, self.limit);
        figures.add_with_spread(&format!("{name}.false"), found, "of minutes");
    }

    /// Where a fault lies behind or before a minute, and at other loads.
    pub(crate) fn without_fault(&self, figures: &mut Figures) -> anyhow::Result<()> {
        let name = &self.name;
        for (stage, called) in [(Stage::Before, "before"), (Stage::After, "after")] {
            let found = share_above(&self.perturbed(stage, |_| true), self.limit);
            figures.add(&format!("{name}.false.{called}"), found, "of minutes");
        }
        for (factor, called) in LOADS {
            let drawn = self.split.normal_at_load(factor)?;
            let drawn: Vec<&Sample> = drawn.iter().filter(|s| s.is_judged()).collect();
            let found = share_above(&(self.score)(&drawn)?, self.limit);
            figures.add(&format!("{name}.false.load_{called}"), found, "of minutes");
        }
        Ok(())
    }

    /// By call, delay and error.
    pub(crate) fn by_kind(&self, figures: &mut Figures) {
        for (stage, called) in [(Stage::Early, "early"), (Stage::Whole, "whole")] {
            let mut kinds: Vec<String> = Vec::new();
            let labels = self.split.runs.iter().map(|run| &run.label);
            let perturbed = labels.filter(|label| label.has_effect());
            kinds.extend(perturbed.flat_map(kinds_of));
            kinds.sort();
            kinds.dedup();
            for kind in kinds {
                let is_kind = |label: &Label| kinds_of(label).contains(&kind);
                let area = auc(&self.normal, &self.perturbed(stage, is_kind));
                figures.add(&format!("{}.auc.{called}.{kind}", self.name), area, "AUC");
            }
        }
    }

    /// One score an experiment, the median of its whole minutes.
    pub(crate) fn by_run(&self, figures: &mut Figures) {
        let medians = |part| -> Vec<f64> {
            let of_run = |run: usize| {
                let is_there = |s: &Sample| s.run == run && Stage::at(s.at) == Some(Stage::Whole);
                let mut scores = self.of(part, is_there);
                scores.sort_by(f64::total_cmp);
                scores.get(scores.len() / 2).copied()
            };
            (0..self.split.runs.len()).filter_map(of_run).collect()
        };
        let area = auc(&medians(Part::Normal), &medians(Part::Perturbed));
        figures.add(&format!("{}.auc.runs", self.name), area, "AUC");
    }

    /// The minutes of an injection without effect, against those before and after it.
    pub(crate) fn nothing_injected(&self, figures: &mut Figures) {
        let is_whole = |sample: &Sample| Stage::at(sample.at) == Some(Stage::Whole);
        let beside =
            |sample: &Sample| matches!(Stage::at(sample.at), Some(Stage::Before | Stage::After));
        let beside = self.of(Part::Normal, beside);
        for call in ["read", "readv", "poll", "select", "sendfile64"] {
            let is_call = |sample: &Sample| self.split.runs[sample.run].label.call == call;
            let during = self.of(Part::Normal, |sample| is_whole(sample) && is_call(sample));
            let name = format!("{}.auc.nothing_injected.{call}", self.name);
            figures.add(&name, auc(&beside, &during), "AUC");
        }
    }

    /// At a limit that came from elsewhere.
    pub(crate) fn at_limit(&self, figures: &mut Figures, called: &str, limit: f64) {
        let name = format!("{}.{called}", self.name);
        for (stage, of_stage) in STAGES {
            let found = self.found(stage, limit);
            figures.add(&format!("{name}.found.{of_stage}"), found, "of minutes");
        }
        let found = share_above(&self.normal, limit);
        figures.add(&format!("{name}.false"), found, "of minutes");
    }
}

fn kinds_of(label: &Label) -> [String; 3] {
    let error = label.error.as_deref().unwrap_or("none");
    [
        format!("call.{}", label.call),
        format!("delay.{}s", label.delay_us / 1_000_000),
        format!("error.{error}"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_of_three_kinds() {
        let label: Label = "write:delay_enter=5000000".parse().unwrap();
        assert_eq!(kinds_of(&label), ["call.write", "delay.5s", "error.none"]);
    }
}
