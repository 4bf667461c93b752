//! What judges a sample: the autoencoder in several ways, and what is simpler.

use stethos_trainer::vae::{Vae, VaeConfig};

use super::gaussian::Gaussian;
use super::runs::OUTSIDE_NAMES;
use super::sample::Sample;

/// Most profiles that production trains on.
const MAX_PROFILES: usize = 512;
/// One hundredth, in square roots of shares, is noise.
const NOISE: f64 = 0.01;

/// Scores of samples, higher = stranger.
pub(crate) type Score = Box<dyn Fn(&[&Sample]) -> anyhow::Result<Vec<f64>>>;

pub(crate) struct Method {
    pub(crate) name: String,
    pub(crate) score: Score,
    /// Judges the profile, so that samples without one have no score.
    pub(crate) of_profiles: bool,
}

impl Method {
    fn new(
        name: impl Into<String>,
        of_profiles: bool,
        score: impl Fn(&Sample) -> f64 + 'static,
    ) -> Self {
        Method {
            name: name.into(),
            of_profiles,
            score: Box::new(move |samples| Ok(samples.iter().map(|s| score(s)).collect())),
        }
    }
}

/// By reconstruction error, by the distance of the code's mean from the training codes, and by the
/// sum of both in multiples of what normal held-back samples have at the median.
pub(crate) fn autoencoder(
    training: &[&Sample],
    held_back: &[&Sample],
    config: &VaeConfig,
    seed: u64,
) -> anyhow::Result<Vec<Method>> {
    let vae = std::rc::Rc::new(Vae::learn(
        &profiles(&thinned(training)),
        config.clone(),
        seed,
    )?);
    let codes = vae.codes(&profiles(training))?;
    let normal = Gaussian::new(
        &codes.iter().map(|code| wide(code)).collect::<Vec<_>>(),
        NOISE,
    );
    let error = {
        let vae = vae.clone();
        move |samples: &[&Sample]| -> anyhow::Result<Vec<f64>> {
            Ok(vae.errors(&profiles(samples))?)
        }
    };
    let latent = move |samples: &[&Sample]| -> anyhow::Result<Vec<f64>> {
        let codes = vae.codes(&profiles(samples))?;
        Ok(codes
            .iter()
            .map(|code| normal.distance(&wide(code)))
            .collect())
    };
    let (error, latent) = (std::rc::Rc::new(error), std::rc::Rc::new(latent));
    let (of_error, of_latent) = (median(&error(held_back)?), median(&latent(held_back)?));
    let both = {
        let (error, latent) = (error.clone(), latent.clone());
        move |samples: &[&Sample]| -> anyhow::Result<Vec<f64>> {
            let pairs = error(samples)?.into_iter().zip(latent(samples)?);
            Ok(pairs.map(|(e, l)| e / of_error + l / of_latent).collect())
        }
    };
    let method = |name: &str, score: Score| Method {
        name: name.to_owned(),
        score,
        of_profiles: true,
    };
    Ok(vec![
        method("vae.error", Box::new(move |samples| error(samples))),
        method("vae.latent", Box::new(move |samples| latent(samples))),
        method("vae.both", Box::new(both)),
    ])
}

/// Of the same profiles: mean square and greatest of standardised values, Mahalanobis distance, what
/// as many principal components as the code has values leave. Of rates: the greatest standardised.
pub(crate) fn simple(training: &[&Sample]) -> Vec<Method> {
    let profiles: Vec<Vec<f64>> = training.iter().map(|s| wide(&s.profile)).collect();
    let rates: Vec<Vec<f64>> = training.iter().map(|s| s.rates.clone()).collect();
    let spread = Spread::new(&profiles, NOISE);
    let of_rates = Spread::new(&rates, 0.1);
    let normal = std::rc::Rc::new(Gaussian::new(&profiles, NOISE));
    let (mean_square, greatest) = (spread.clone(), spread);
    let (whole, left) = (normal.clone(), normal);
    let components = VaeConfig::default().latent;
    vec![
        Method::new("mean_square_z", true, move |s| {
            let z = mean_square.z(&wide(&s.profile));
            z.iter().map(|z| z * z).sum::<f64>() / z.len() as f64
        }),
        Method::new("max_z", true, move |s| {
            highest(&greatest.z(&wide(&s.profile)))
        }),
        Method::new("mahalanobis", true, move |s| {
            whole.distance(&wide(&s.profile))
        }),
        Method::new("pca", true, move |s| {
            left.residual(&wide(&s.profile), components)
        }),
        Method::new("rates_max_z", false, move |s| {
            highest(&of_rates.z(&s.rates))
        }),
    ]
}

/// What is measured beside calls, one by one and the greatest of all.
pub(crate) fn outside(training: &[&Sample]) -> Vec<Method> {
    let known = training.iter().map(|s| s.outside.to_vec());
    let known: Vec<Vec<f64>> = known
        .filter(|row| row.iter().all(|x| !x.is_nan()))
        .collect();
    let spread = Spread::new(&known, 0.01);
    let all = spread.clone();
    let mut methods = vec![Method::new("outside.all", false, move |s| {
        highest(&all.z(&s.outside))
    })];
    for (index, name) in OUTSIDE_NAMES.iter().enumerate() {
        let spread = spread.clone();
        methods.push(Method::new(format!("outside.{name}"), false, move |s| {
            highest(&spread.z(&s.outside)[index..=index])
        }));
    }
    methods
}

/// Production trains on so many at most, from all of the time.
fn thinned<'s>(training: &[&'s Sample]) -> Vec<&'s Sample> {
    let step = training.len().div_ceil(MAX_PROFILES).max(1);
    training.iter().copied().step_by(step).collect()
}

fn profiles(samples: &[&Sample]) -> Vec<Vec<f32>> {
    samples
        .iter()
        .map(|sample| sample.profile.clone())
        .collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
        .get(sorted.len() / 2)
        .copied()
        .unwrap_or(1.0)
        .max(f64::MIN_POSITIVE)
}

/// Greatest absolute value; what could not be measured is nothing strange.
fn highest(values: &[f64]) -> f64 {
    values.iter().map(|value| value.abs()).fold(0.0, f64::max)
}

/// Mean and standard deviation per value.
#[derive(Clone)]
struct Spread {
    mean: Vec<f64>,
    deviation: Vec<f64>,
}

impl Spread {
    fn new(rows: &[Vec<f64>], least: f64) -> Self {
        let length = rows.first().map_or(0, Vec::len);
        let count = rows.len().max(1) as f64;
        let mean = |place: usize| rows.iter().map(|row| row[place]).sum::<f64>() / count;
        let mean: Vec<f64> = (0..length).map(mean).collect();
        let deviation = (0..length).map(|place| {
            let squares = rows.iter().map(|row| (row[place] - mean[place]).powi(2));
            (squares.sum::<f64>() / count).sqrt().max(least)
        });
        let deviation = deviation.collect();
        Spread { mean, deviation }
    }

    fn z(&self, row: &[f64]) -> Vec<f64> {
        let parts = row.iter().zip(&self.mean).zip(&self.deviation);
        parts
            .map(|((x, mean), deviation)| (x - mean) / deviation)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standardised_by_what_was_seen_and_by_the_least_deviation() {
        let spread = Spread::new(&[vec![1.0, 5.0], vec![3.0, 5.0]], 0.5);
        assert_eq!(spread.z(&[4.0, 4.0]), [2.0, -2.0]);
        assert_eq!(highest(&[1.0, -2.0, f64::NAN]), 2.0);
    }
}
