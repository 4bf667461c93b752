//! Which experiments are learned from, which calibrate, and which test.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::runs::Run;
use super::sample::{Sample, Sampler, Stage};

/// Ways to deal the experiments out.
pub(crate) const FOLDS: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Nothing is injected: learned from.
    Training,
    /// Nothing is injected: limits come from here.
    HeldBack,
    /// Nothing is injected: what must not be found.
    Normal,
    /// What must be found; never learned from, not even the time before the injection.
    Perturbed,
}

/// The part of every experiment: of four of one call without effect, two train, one calibrates and
/// one tests; `fold` says which.
pub(crate) fn parts(runs: &[Run], fold: usize) -> Vec<Part> {
    let mut turn = fold;
    let mut part = |run: &Run| {
        if run.label.has_effect() {
            return Part::Perturbed;
        }
        turn += 1;
        match turn % FOLDS {
            0 | 1 => Part::Training,
            2 => Part::HeldBack,
            _ => Part::Normal,
        }
    };
    runs.iter().map(&mut part).collect()
}

/// The samples of all experiments, as far as they belong to a stage or nothing is injected.
pub(crate) struct Split<'r> {
    pub(crate) runs: &'r [Run],
    pub(crate) parts: Vec<Part>,
    pub(crate) samples: Vec<Sample>,
    sampler: Sampler,
}

impl<'r> Split<'r> {
    pub(crate) fn new(runs: &'r [Run], fold: usize) -> anyhow::Result<Self> {
        let parts = parts(runs, fold);
        let training = runs.iter().zip(&parts);
        let training = training.filter(|(_, part)| **part == Part::Training);
        let sampler = Sampler::new(training.map(|(run, _)| run))?;
        let mut samples = Vec::new();
        for (index, run) in runs.iter().enumerate() {
            samples.extend(sampler.samples(index, run)?);
        }
        samples.retain(|sample: &Sample| match parts[sample.run] {
            Part::Perturbed => Stage::at(sample.at).is_some(),
            _ => sample.at >= Stage::FIRST,
        });
        Ok(Split {
            runs,
            parts,
            samples,
            sampler,
        })
    }

    pub(crate) fn part(&self, sample: &Sample) -> Part {
        self.parts[sample.run]
    }

    /// The judged samples of one part.
    pub(crate) fn judged(&self, part: Part) -> Vec<&Sample> {
        let is_wanted = |sample: &&Sample| self.part(sample) == part && sample.is_judged();
        self.samples.iter().filter(is_wanted).collect()
    }

    /// The normal test samples at `factor` times the load.
    pub(crate) fn normal_at_load(&self, factor: f64) -> anyhow::Result<Vec<Sample>> {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut drawn = Vec::new();
        for (index, run) in self.runs.iter().enumerate() {
            if self.parts[index] != Part::Normal {
                continue;
            }
            for row in run.rows.iter().filter(|row| row.at >= Stage::FIRST) {
                let sample = self.sampler.at_load(factor, index, run, row, &mut random)?;
                drawn.push(sample);
            }
        }
        Ok(drawn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fold_deals_each_experiment_to_one_part() {
        let run = |number: usize| Run {
            label: if number < 8 {
                "read:error=EIO"
            } else {
                "open:error=EIO"
            }
            .parse()
            .unwrap(),
            calls: Vec::new(),
            rows: Vec::new(),
        };
        let runs: Vec<Run> = (0..10).map(run).collect();
        let count = |parts: &[Part], part| parts.iter().filter(|p| **p == part).count();
        let mut tested = [0; 8];
        for fold in 0..FOLDS {
            let parts = parts(&runs, fold);
            assert_eq!(count(&parts, Part::Training), 4);
            assert_eq!(count(&parts, Part::HeldBack), 2);
            assert_eq!(parts[8..], [Part::Perturbed; 2]);
            let normal = (0..8).filter(|&index| parts[index] == Part::Normal);
            normal.for_each(|index| tested[index] += 1);
        }
        assert_eq!(tested, [1; 8]);
    }
}
