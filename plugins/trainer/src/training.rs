//! The steps of training, one after the other.

use std::time::{Duration, Instant};

use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use stethos_bundle::{Bundle, ModelCard};
use stethos_patterns::profile::ProfileLayout;
use stethos_patterns::score::window_score;

use crate::calibration::{Calibration, Scores};
use crate::corpus::{Corpus, Sequence};
use crate::epochs::Schedule;
use crate::followers::Followers;
use crate::gru::{Gru, GruShape, Withhold};
use crate::markov::Markov;
use crate::profiles::{self, Profiles};
use crate::tensors::serialise;
use crate::vae::{Vae, VaeConfig};
use crate::{Phase, Progress, TrainConfig, TrainError, TrainingInput};

const BATCH: usize = 64;
/// Batches between two looks at the clock; few sequences make smaller ones.
const BATCHES: usize = 16;
const MIN_BATCH: usize = 8;
const LEARNING_RATE: f64 = 0.01;
const WITHHOLD: Withhold = Withhold {
    tokens: 0.005,
    patterns: 0.1,
};
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
    let followers = match config.followers {
        true => Some(Followers::new(
            &corpus.training,
            shape.vocabulary,
            shape.patterns,
        )?),
        false => None,
    };
    let gru = Gru::new(shape, followers, &mut random)?;
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

    let layout = ProfileLayout::new(&corpus.vocabulary, corpus.patterns.len());
    let typical = profiles::of_all(&corpus, &layout, &input.arch);
    let layout = layout.with_typical(&typical);
    let profiles = Profiles::new(&corpus, &layout, &input.arch, MIN_PROFILES, &mut random);
    let shape = VaeConfig {
        hidden: config.vae_hidden,
        latent: config.latent,
        ..VaeConfig::default()
    };
    let mut vae = Vae::new(
        &profiles.training,
        &layout.least_scales(),
        shape,
        &mut random,
    )?;
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
        profile: layout.dimension(),
        vocabulary: corpus.vocabulary.len(),
        false_alarm_rate: config.false_alarm_rate,
        widened: input.widened,
    };
    let quality = corpus.quality();
    let card = ModelCard {
        container: input.container,
        arch: input.arch,
        created_unix: input.created_unix,
        unseen_mass: input.unseen_mass,
        steps: fit.steps as u32,
        coverage: quality.coverage,
        silhouette: quality.silhouette,
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
        usage: input.usage,
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
        coverage: 0.0,
        silhouette: 0.0,
        steps: 0,
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
    steps: usize,
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
    let draw = Draw::new(sequences, config.spread, config.temper);
    let size = (sequences.len() / BATCHES).clamp(MIN_BATCH, BATCH);
    let epochs = config.steps.div_ceil(BATCHES).max(1);
    let mut schedule = Schedule::new(epochs, LEARNING_RATE, allowance);
    let parameters = ParamsAdamW {
        weight_decay: 0.0,
        ..ParamsAdamW::default()
    };
    let mut optimizer = AdamW::new(gru.variables(), parameters)?;
    // Tokens of a batch, on average: its loss is then in nats per token.
    let scale = draw.mean_length() * size as f64;
    let mut last = 0.0;
    while let Some(rate) = schedule.next() {
        optimizer.set_learning_rate(rate);
        // Batches of similar lengths in random order.
        let mut drawn: Vec<(&Sequence, f64)> =
            (0..size * BATCHES).map(|_| draw.one(random)).collect();
        drawn.sort_by_key(|(sequence, _)| sequence.ids.len());
        let mut batches: Vec<&[_]> = drawn.chunks(size).collect();
        batches.shuffle(random);
        let (mut sum, mut done) = (0.0, 0.0);
        for batch in &batches {
            let batch = gru.batch(batch, Some((WITHHOLD, random)))?;
            let loss = gru.loss(&batch, scale)?;
            optimizer.backward_step(&loss)?;
            sum += f64::from(loss.to_scalar::<f32>()?);
            done += 1.0;
            if schedule.is_over() {
                break;
            }
        }
        last = sum / f64::max(done, 1.0);
        if !last.is_finite() {
            let steps = schedule.taken() * BATCHES;
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
        steps: schedule.taken() * BATCHES,
        loss: last,
    })
}

/// Draws windows, a share of them at random among distinct ones, the rest by weight, and gives each the
/// factor that makes the mean loss that of all windows by weight.
struct Draw<'a> {
    sequences: &'a [Sequence],
    /// Sums of the probabilities to be drawn.
    sums: Vec<f64>,
    /// The weight of each, divided by its probability to be drawn.
    factors: Vec<f64>,
}

impl<'a> Draw<'a> {
    fn new(sequences: &'a [Sequence], spread: f64, temper: f64) -> Self {
        let weight = |s: &Sequence| (s.count as f64).powf(temper);
        let all = sequences.iter().map(weight).sum::<f64>().max(1.0);
        let even = 1.0 / sequences.len().max(1) as f64;
        let (mut sums, mut factors) = (Vec::new(), Vec::new());
        let mut sum = 0.0;
        for sequence in sequences {
            let share = weight(sequence) / all;
            let drawn = spread * even + (1.0 - spread) * share;
            sum += drawn;
            sums.push(sum);
            factors.push(share / drawn);
        }
        Draw {
            sequences,
            sums,
            factors,
        }
    }

    fn one(&self, random: &mut ChaCha8Rng) -> (&'a Sequence, f64) {
        let at = random.random_range(0.0..1.0);
        let place = self.sums.partition_point(|sum| *sum <= at);
        let place = place.min(self.sequences.len() - 1);
        (&self.sequences[place], self.factors[place])
    }

    /// Tokens of a window, by weight.
    fn mean_length(&self) -> f64 {
        let (mut mean, mut before) = (0.0, 0.0);
        for ((sequence, factor), sum) in self.sequences.iter().zip(&self.factors).zip(&self.sums) {
            mean += sequence.ids.len() as f64 * factor * (sum - before);
            before = *sum;
        }
        f64::max(mean, 1.0)
    }
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
