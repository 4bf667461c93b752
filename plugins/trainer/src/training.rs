//! The steps of training, one after the other.

use std::time::{Duration, Instant};

use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use stethos_bundle::{Bundle, ModelCard};
use stethos_patterns::profile::ProfileLayout;
use stethos_patterns::score::window_score;

use crate::calibration::{Calibration, Scores};
use crate::corpus::{Corpus, Sequence};
use crate::epochs::Schedule;
use crate::gru::{Gru, GruShape, Withhold};
use crate::markov::Markov;
use crate::profiles::Profiles;
use crate::tensors::serialise;
use crate::vae::{Vae, VaeConfig};
use crate::{Phase, Progress, TrainConfig, TrainError, TrainingInput};

const BATCH: usize = 64;
/// Few sequences make smaller batches: this many an epoch.
const BATCHES: usize = 16;
const MIN_BATCH: usize = 8;
/// Most a distinct window weighs, however often it came.
const MAX_WEIGHT: u64 = 1024;
const LEARNING_RATE: f64 = 0.01;
const WITHHOLD: Withhold = Withhold {
    tokens: 0.005,
    patterns: 0.1,
};
/// Epochs that the step limit leaves at least, by training on the most frequent windows only.
const MIN_EPOCHS: usize = 4;

const MIN_PROFILES: usize = 128;

/// Shares of the time that is left: of the GRU after the patterns, of the autoencoder after
/// the GRU.
const GRU_TIME: f64 = 0.7;
const VAE_TIME: f64 = 0.5;

/// Limits of a model: what a guest must be able to hold.
const MAX_SIZE: usize = 1024;

pub(crate) fn train(
    input: TrainingInput,
    config: &TrainConfig,
    progress: &mut dyn FnMut(Progress),
) -> Result<Bundle, TrainError> {
    check(config)?;
    let deadline = config.time_limit.map(|limit| Instant::now() + limit);
    let left = |share: f64| {
        deadline.map(|end| end.saturating_duration_since(Instant::now()).mul_f64(share))
    };
    let mut random = ChaCha8Rng::seed_from_u64(config.seed);
    let mut report = |phase, fraction, loss| {
        progress(Progress {
            phase,
            fraction,
            loss,
        })
    };

    report(Phase::Patterns, 0.0, None);
    let corpus = Corpus::new(input.windows, config.conditioned)?;
    report(Phase::Patterns, 1.0, None);

    let shape = GruShape {
        vocabulary: corpus.vocabulary.len(),
        embedding: config.embedding,
        hidden: config.hidden,
        patterns: corpus.patterns.len(),
    };
    let gru = Gru::new(shape, &mut random)?;
    let fit = fit(
        &gru,
        &corpus.training,
        config,
        left(GRU_TIME),
        &mut random,
        &mut |done, loss| {
            report(Phase::Sequences, done, Some(loss));
        },
    )?;

    let layout = ProfileLayout::new(&corpus.vocabulary, corpus.patterns.len())
        .with_typical(&input.arch, &input.baseline);
    let profiles = Profiles::new(&corpus, &layout, &input.arch, MIN_PROFILES, &mut random);
    let shape = VaeConfig {
        hidden: config.vae_hidden,
        latent: config.latent,
        ..VaeConfig::default()
    };
    let mut vae = Vae::new(&profiles.training, shape, &mut random)?;
    vae.train(
        &profiles.training,
        left(VAE_TIME),
        &mut random,
        &mut |done, loss| {
            report(Phase::Profiles, done, Some(loss));
        },
    )?;

    report(Phase::Calibration, 0.0, None);
    let markov = Markov::new(&corpus.training, corpus.vocabulary.len(), 8);
    let scored = Scored::new(&gru, &corpus)?;
    let calibration = Calibration {
        windows: scored.windows,
        without_pattern: scored.without_pattern,
        reconstruction: vae.errors(&profiles.held_back)?,
        vocabulary: corpus.vocabulary.len(),
        false_alarm_rate: config.false_alarm_rate,
        widened: input.widened,
    };
    let card = ModelCard {
        container: input.container,
        arch: input.arch,
        created_unix: input.created_unix,
        unseen_mass: input.unseen_mass,
        epochs: fit.epochs as u32,
        training_loss: fit.loss,
        loss: scored.loss,
        markov3_loss: markov.loss(&corpus.held_back, 3),
        markov8_loss: markov.loss(&corpus.held_back, 8),
        widened: input.widened,
        ..card(&corpus, config)
    };
    let tensors: Vec<_> = gru.tensors().into_iter().chain(vae.tensors()).collect();
    let bundle = Bundle {
        card,
        vocabulary: corpus.vocabulary.tokens().to_vec(),
        patterns: corpus.patterns,
        thresholds: calibration.thresholds(),
        baseline: input.baseline,
        profile_layout: layout,
        model: serialise(&tensors)?,
    };
    // What is handed out is what a reader of the file gets.
    let bundle = Bundle::read(&bundle.write()?, "new bundle")?;
    report(Phase::Calibration, 1.0, Some(bundle.card.loss));
    Ok(bundle)
}

fn check(config: &TrainConfig) -> Result<(), TrainError> {
    let sizes = [
        ("embedding", config.embedding),
        ("hidden", config.hidden),
        ("vae_hidden", config.vae_hidden),
        ("latent", config.latent),
    ];
    for (setting, size) in sizes {
        if !(1..=MAX_SIZE).contains(&size) {
            let reason = format!("{size} is not between 1 and {MAX_SIZE}");
            return Err(TrainError::Setting { setting, reason });
        }
    }
    let rate = config.false_alarm_rate;
    if !(rate > 0.0 && rate < 1.0) {
        let reason = format!("{rate} is not between 0 and 1");
        return Err(TrainError::Setting {
            setting: "false_alarm_rate",
            reason,
        });
    }
    Ok(())
}

/// What the corpus and the settings say of a model.
fn card(corpus: &Corpus, config: &TrainConfig) -> ModelCard {
    ModelCard {
        container: String::new(),
        arch: String::new(),
        created_unix: 0,
        windows: corpus.windows as u64,
        distinct_windows: distinct(corpus) as u64,
        calls: corpus.calls as u64,
        seconds: corpus.seconds,
        vocabulary: corpus.vocabulary.len() as u32,
        patterns: corpus.patterns.len() as u32,
        embedding: config.embedding as u32,
        hidden: config.hidden as u32,
        unseen_mass: 0.0,
        epochs: 0,
        held_back_windows: corpus.held_back.iter().map(|s| s.count).sum(),
        training_loss: 0.0,
        loss: 0.0,
        markov3_loss: 0.0,
        markov8_loss: 0.0,
        widened: false,
        trainer: env!("CARGO_PKG_VERSION").to_owned(),
        seed: config.seed,
        subject: None,
    }
}

fn distinct(corpus: &Corpus) -> usize {
    let both = corpus.training.iter().chain(&corpus.held_back);
    both.map(|s| (&s.ids, s.pattern))
        .collect::<std::collections::HashSet<_>>()
        .len()
}

struct Fit {
    epochs: usize,
    loss: f64,
}

fn fit(
    gru: &Gru,
    sequences: &[Sequence],
    config: &TrainConfig,
    allowance: Option<Duration>,
    random: &mut ChaCha8Rng,
    observe: &mut dyn FnMut(f64, f64),
) -> Result<Fit, TrainError> {
    let mut weighted: Vec<(&Sequence, f64)> = sequences
        .iter()
        .map(|s| (s, s.count.min(MAX_WEIGHT) as f64))
        .collect();
    weighted.sort_by_key(|(sequence, _)| std::cmp::Reverse(sequence.count));
    weighted.truncate((config.steps / MIN_EPOCHS).max(1) * BATCH);
    let size = (weighted.len() / BATCHES).clamp(MIN_BATCH, BATCH);
    let steps = weighted.len().div_ceil(size);

    let epochs = (config.steps / steps.max(1)).clamp(1, config.epochs.max(1));
    let mut schedule = Schedule::new(epochs, LEARNING_RATE, allowance);
    let parameters = ParamsAdamW {
        weight_decay: 0.0,
        ..ParamsAdamW::default()
    };
    let mut optimizer = AdamW::new(gru.variables(), parameters)?;
    let weight: f64 = weighted
        .iter()
        .map(|(s, weight)| s.ids.len() as f64 * weight)
        .sum();
    // Mean weight of a batch: an epoch's mean loss is then in nats per token.
    let scale = weight / steps.max(1) as f64;
    let mut last = 0.0;
    while let Some(rate) = schedule.next() {
        optimizer.set_learning_rate(rate);
        // Batches of similar lengths in random order.
        weighted.shuffle(random);
        weighted.sort_by_key(|(sequence, _)| sequence.ids.len());
        let mut batches: Vec<&[_]> = weighted.chunks(size).collect();
        batches.shuffle(random);
        let (mut sum, mut done) = (0.0, 0.0);
        for batch in &batches {
            let loss = gru.loss(&gru.batch(batch, Some((WITHHOLD, random)))?, scale)?;
            optimizer.backward_step(&loss)?;
            sum += f64::from(loss.to_scalar::<f32>()?);
            done += 1.0;
            if schedule.is_over() {
                break;
            }
        }
        last = sum / f64::max(done, 1.0);
        if !last.is_finite() {
            let steps = schedule.taken() * steps;
            return Err(TrainError::Diverged {
                model: "GRU",
                loss: last,
                steps,
            });
        }
        tracing::debug!(epoch = schedule.taken(), loss = last, "sequences");
        observe(schedule.fraction(), last);
    }
    Ok(Fit {
        epochs: schedule.taken(),
        loss: last,
    })
}

/// The held-back windows as the model sees them.
struct Scored {
    /// Per pattern, the last for none.
    windows: Vec<Scores>,
    without_pattern: Scores,
    /// Nats per token.
    loss: f64,
}

impl Scored {
    fn new(gru: &Gru, corpus: &Corpus) -> Result<Self, TrainError> {
        let none = corpus.patterns.len();
        let mut windows = vec![Scores::new(); none + 1];
        let (mut sum, mut tokens) = (0.0, 0.0);
        for (sequence, surprises) in corpus.held_back.iter().zip(gru.score(&corpus.held_back)?) {
            let count = sequence.count;
            windows[sequence.pattern.unwrap_or(none)].push((window_score(&surprises), count));
            sum += surprises.iter().map(|&s| f64::from(s)).sum::<f64>() * count as f64;
            tokens += (surprises.len() as u64 * count) as f64;
        }
        let bare: Vec<Sequence> = corpus
            .held_back
            .iter()
            .map(|sequence| Sequence {
                pattern: None,
                ..sequence.clone()
            })
            .collect();
        let without_pattern = gru
            .score(&bare)?
            .iter()
            .zip(&bare)
            .map(|(surprises, sequence)| (window_score(surprises), sequence.count))
            .collect();
        Ok(Scored {
            windows,
            without_pattern,
            loss: sum / f64::max(tokens, 1.0),
        })
    }
}
