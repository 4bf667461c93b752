//! A minute of rates as the models see it.

use anyhow::Context;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Poisson};
use stethos_patterns::profile::{ProfileBuilder, ProfileLayout};
use stethos_patterns::{Token, Vocabulary, names};

use super::runs::{OUTSIDE_NAMES, Row, Run};
use crate::metrics::distinct_by;

const ARCH: &str = "x86_64";
/// Seconds that a rate is taken over.
const SPAN: f64 = 60.0;

/// When a minute ended, in seconds since the injection began. A minute that ends in the first 60 s is
/// perturbed in part; the rest of the experiment's first minute holds the end of the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Before,
    /// Perturbed in its last seconds: up to a quarter of it, and more.
    Early,
    Partly,
    Whole,
    /// The injection has ended, and the whole minute lies behind that.
    After,
}

impl Stage {
    /// End of the first minute that holds nothing of the experiment before.
    pub(crate) const FIRST: i64 = -57;

    /// None for minutes that belong to no stage.
    pub(crate) fn at(seconds: i64) -> Option<Self> {
        Some(match seconds {
            Self::FIRST..=-6 => Stage::Before,
            3..=15 => Stage::Early,
            16..=63 => Stage::Partly,
            64..=114 => Stage::Whole,
            186.. => Stage::After,
            _ => return None,
        })
    }
}

/// One row of one experiment.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Index of the experiment.
    pub(crate) run: usize,
    pub(crate) at: i64,
    /// As in production; empty when there are too few calls for one.
    pub(crate) profile: Vec<f32>,
    /// ln(1 + calls a second) for every call.
    pub(crate) rates: Vec<f64>,
    /// ln of what is measured beside calls.
    pub(crate) outside: [f64; OUTSIDE_NAMES.len()],
}

impl Sample {
    pub(crate) fn is_judged(&self) -> bool {
        !self.profile.is_empty()
    }
}

/// Makes samples; the vocabulary holds the calls of the training runs.
pub(crate) struct Sampler {
    layout: ProfileLayout,
    vocabulary: Vocabulary,
}

impl Sampler {
    pub(crate) fn new<'r>(training: impl Iterator<Item = &'r Run>) -> anyhow::Result<Self> {
        let mut tokens = Vec::new();
        for run in training {
            tokens.extend(self::tokens(run)?);
        }
        let vocabulary = Vocabulary::new(tokens);
        Ok(Sampler {
            layout: ProfileLayout::new(&vocabulary, 0),
            vocabulary,
        })
    }

    /// The samples of one run: equal rows once, because rates are read more often than counters. Rows
    /// without any call say nothing of that.
    pub(crate) fn samples(&self, index: usize, run: &Run) -> anyhow::Result<Vec<Sample>> {
        let bits = |row: &&Row| -> (Option<i64>, Vec<u64>) {
            let is_silent = row.rates.iter().all(|rate| *rate == 0.0);
            (
                is_silent.then_some(row.at),
                row.rates.iter().map(|r| r.to_bits()).collect(),
            )
        };
        let rows = distinct_by(&run.rows, bits);
        rows.into_iter()
            .map(|row| self.sample(index, run, row))
            .collect()
    }

    pub(crate) fn sample(&self, index: usize, run: &Run, row: &Row) -> anyhow::Result<Sample> {
        let counts = row.rates.iter().map(|rate| (rate * SPAN).round() as u64);
        Ok(Sample {
            run: index,
            at: row.at,
            profile: self.profile(run, counts)?,
            rates: row.rates.iter().map(|rate| rate.ln_1p()).collect(),
            outside: row.outside.map(|value| value.max(1e-6).ln()),
        })
    }

    /// The sample at `factor` times the load: as many calls are drawn as then come on average.
    pub(crate) fn at_load(
        &self,
        factor: f64,
        index: usize,
        run: &Run,
        row: &Row,
        random: &mut ChaCha8Rng,
    ) -> anyhow::Result<Sample> {
        let mut drawn = row.clone();
        for rate in &mut drawn.rates {
            let mean = *rate * SPAN * factor;
            let calls = Poisson::new(mean).map_or(0.0, |calls| calls.sample(random));
            *rate = calls / SPAN;
        }
        self.sample(index, run, &drawn)
    }

    fn profile(&self, run: &Run, counts: impl Iterator<Item = u64>) -> anyhow::Result<Vec<f32>> {
        let mut builder = ProfileBuilder::new(self.layout.clone(), self.vocabulary.clone(), ARCH);
        // Calls are known as counts alone.
        builder.reduce(true);
        for (token, calls) in tokens(run)?.into_iter().zip(counts) {
            builder.count(token, calls);
        }
        let profile = builder.finish();
        let judged = profile.is_sufficient();
        Ok(if judged { profile.values } else { Vec::new() })
    }
}

/// The calls behind the columns; how they ended is not known.
fn tokens(run: &Run) -> anyhow::Result<Vec<Token>> {
    let table = names::table(ARCH);
    let token = |tracepoint: &String| {
        let number = table.number(call_name(tracepoint));
        let number = number.with_context(|| format!("{tracepoint} is no call"))?;
        Ok(Token::new(number, 0))
    };
    run.calls.iter().map(token).collect()
}

/// The call of a tracepoint, of whose name the archive keeps what follows the last underscore.
fn call_name(tracepoint: &str) -> &str {
    match tracepoint {
        "ctl" => "epoll_ctl",
        "pwait" => "epoll_pwait",
        "newfstat" => "fstat",
        "newstat" => "stat",
        "sendfile64" => "sendfile",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn run(rates: &[f64]) -> Run {
        Run {
            label: "open:error=EIO".parse().unwrap(),
            calls: ["pwait", "open", "newfstat"].map(str::to_owned).into(),
            rows: vec![Row {
                at: 0,
                rates: rates.to_vec(),
                outside: [1.0; OUTSIDE_NAMES.len()],
            }],
        }
    }

    fn profile(rates: &[f64]) -> Vec<f32> {
        let run = run(rates);
        let sampler = Sampler::new([&run].into_iter()).unwrap();
        sampler.samples(0, &run).unwrap().remove(0).profile
    }

    #[test]
    fn a_profile_holds_roots_of_shares_without_waits_at_any_load() {
        let one = profile(&[50.0, 3.0, 1.0]);
        let calls: Vec<f32> = one
            .iter()
            .copied()
            .filter(|x| (0.1..1.0).contains(x))
            .collect();
        assert_eq!(calls, [0.75f32.sqrt(), 0.5]);
        assert_eq!(profile(&[0.0, 15.0, 5.0]), one);
        assert!(profile(&[50.0, 1.0, 1.0]).is_empty());
    }

    #[test]
    fn equal_rows_are_one_sample() {
        let mut run = run(&[1.0, 20.0, 3.0]);
        run.rows.push(run.rows[0].clone());
        run.rows[1].at = 3;
        let sampler = Sampler::new([&run].into_iter()).unwrap();
        assert_eq!(sampler.samples(0, &run).unwrap().len(), 1);
        for row in &mut run.rows {
            row.rates.fill(0.0);
        }
        assert_eq!(sampler.samples(0, &run).unwrap().len(), 2);
    }

    #[test]
    fn more_load_draws_more_calls() {
        let run = run(&[0.0, 100.0, 300.0]);
        let sampler = Sampler::new([&run].into_iter()).unwrap();
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let five = sampler.at_load(5.0, 0, &run, &run.rows[0], &mut random);
        let rates = five.unwrap().rates;
        assert_eq!(rates[0], 0.0);
        assert!((rates[1] - 501f64.ln()).abs() < 0.1);
    }

    #[test]
    fn a_minute_is_whole_once_the_injection_fills_it() {
        assert_eq!(Stage::at(-60), None);
        assert_eq!(Stage::at(-6), Some(Stage::Before));
        assert_eq!(Stage::at(15), Some(Stage::Early));
        assert_eq!(Stage::at(60), Some(Stage::Partly));
        assert_eq!(Stage::at(66), Some(Stage::Whole));
        assert_eq!(Stage::at(120), None);
        assert_eq!(Stage::at(243), Some(Stage::After));
    }
}
