//! Profiles against the ChaosOrca experiments (Simonsson et al. 2021, KTH): an nginx in a
//! container under a replayed load, calls delayed or failed by `strace`, and the rates of its calls
//! over the last minute, read every three seconds. `docs/learning.md` has method and result.

mod gaussian;
mod measured;
mod methods;
mod runs;
mod sample;
mod split;

use std::path::Path;

use stethos_trainer::calibration::Calibration;
use stethos_trainer::vae::VaeConfig;

use crate::figures::Figures;
use measured::Measured;
use runs::Run;
use sample::{Sample, Stage};
use split::{FOLDS, Part, Split};

/// Trainings of the autoencoder on each split.
const SEEDS: u64 = 3;
/// What a container's limit is made for, see `TrainConfig`.
const FALSE_ALARM_RATE: f64 = 1e-3;

pub(crate) fn run(archive: &Path) -> anyhow::Result<Figures> {
    let runs = runs::read(archive)?;
    let mut figures = Figures::default();
    for fold in 0..FOLDS {
        let split = Split::new(&runs, fold)?;
        describe(&split, &mut figures);
        for seed in 1..=SEEDS {
            autoencoder(&split, seed, &mut figures)?;
        }
        for method in methods::simple(&split.judged(Part::Training)) {
            let measured = Measured::new(&split, &method)?;
            all(&measured, &mut figures)?;
        }
        for method in methods::outside(&split.judged(Part::Training)) {
            Measured::new(&split, &method)?.overall(&mut figures);
        }
    }
    Ok(figures)
}

fn all(measured: &Measured<'_>, figures: &mut Figures) -> anyhow::Result<()> {
    measured.overall(figures);
    measured.without_fault(figures)?;
    measured.by_run(figures);
    measured.by_kind(figures);
    measured.nothing_injected(figures);
    Ok(())
}

fn autoencoder(split: &Split<'_>, seed: u64, figures: &mut Figures) -> anyhow::Result<()> {
    let (training, held_back) = (split.judged(Part::Training), split.judged(Part::HeldBack));
    let ways = methods::autoencoder(&training, &held_back, &VaeConfig::default(), seed)?;
    for method in &ways {
        let measured = Measured::new(split, method)?;
        all(&measured, figures)?;
        if method.name == "vae.error" {
            let dimension = training.first().map_or(0, |sample| sample.profile.len());
            let limit = own_limit(measured.of(Part::HeldBack, |_| true), dimension);
            measured.at_limit(figures, "own_limit", limit);
        }
    }
    Ok(())
}

/// The limit that a bundle would have.
fn own_limit(reconstruction: Vec<f64>, dimension: usize) -> f64 {
    let calibration = Calibration {
        windows: Vec::new(),
        without_pattern: Vec::new(),
        reconstruction,
        profile: dimension,
        vocabulary: 0,
        false_alarm_rate: FALSE_ALARM_RATE,
        widened: false,
    };
    calibration.thresholds().reconstruction_limit
}

/// How much there is of what.
fn describe(split: &Split<'_>, figures: &mut Figures) {
    let runs = |part| split.parts.iter().filter(|p| **p == part).count() as f64;
    let is_perturbed = |s: &&Sample| {
        let during = [Stage::Early, Stage::Partly, Stage::Whole].map(Some);
        split.part(s) == Part::Perturbed && during.contains(&Stage::at(s.at))
    };
    let perturbed: Vec<&Sample> = split.samples.iter().filter(is_perturbed).collect();
    let judged = perturbed.iter().filter(|sample| sample.is_judged()).count();
    let rows: usize = split.runs.iter().map(|run| run.rows.len()).sum();
    for (part, name) in [
        (Part::Training, "training"),
        (Part::HeldBack, "held_back"),
        (Part::Normal, "normal"),
        (Part::Perturbed, "perturbed"),
    ] {
        figures.add(&format!("chaosorca.{name}.runs"), runs(part), "runs");
        let samples = split
            .samples
            .iter()
            .filter(|s| split.part(s) == part)
            .count();
        figures.add(
            &format!("chaosorca.{name}.minutes"),
            samples as f64,
            "minutes",
        );
    }
    let judged = judged as f64 / perturbed.len().max(1) as f64;
    figures.add("chaosorca.perturbed.judged", judged, "of minutes");
    figures.add("chaosorca.rows", rows as f64, "rows");
}

/// The autoencoder with one setting changed at a time.
pub(crate) fn variants(archive: &Path) -> anyhow::Result<Figures> {
    let runs: Vec<Run> = runs::read(archive)?;
    let mut figures = Figures::default();
    for fold in 0..FOLDS {
        let split = Split::new(&runs, fold)?;
        let (training, held_back) = (split.judged(Part::Training), split.judged(Part::HeldBack));
        for (name, config) in settings() {
            for seed in 1..=SEEDS {
                for mut method in methods::autoencoder(&training, &held_back, &config, seed)? {
                    method.name = format!("variant.{name}.{}", method.name);
                    Measured::new(&split, &method)?.overall(&mut figures);
                }
            }
        }
    }
    Ok(figures)
}

fn settings() -> Vec<(String, VaeConfig)> {
    let mut all = vec![("default".to_owned(), VaeConfig::default())];
    let mut add = |name: String, change: &dyn Fn(&mut VaeConfig)| {
        let mut config = VaeConfig::default();
        change(&mut config);
        all.push((name, config));
    };
    for jitter in [0.0, 0.03, 0.3, 1.0] {
        add(format!("jitter_{jitter}"), &|config| config.jitter = jitter);
    }
    for weight in [0.0, 1e-4, 1e-2, 0.1] {
        add(format!("kl_{weight}"), &|config| config.kl_weight = weight);
    }
    for latent in [1, 2, 8] {
        add(format!("latent_{latent}"), &|config| config.latent = latent);
    }
    for hidden in [8, 64] {
        add(format!("hidden_{hidden}"), &|config| config.hidden = hidden);
    }
    for steps in [100, 1600] {
        add(format!("steps_{steps}"), &|config| config.steps = steps);
    }
    for scale in [0.005, 0.02] {
        add(format!("min_scale_{scale}"), &|config| {
            config.min_scale = scale
        });
    }
    all
}
