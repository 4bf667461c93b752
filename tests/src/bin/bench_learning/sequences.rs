//! How well models of sequences tell faults from normal time: the GRU, alone, with patterns, and one
//! for each pattern, beside simple models.
//!
//! Every model learns from the run `train` of a product and is measured on other runs, of other
//! processes of the server: normal windows are those of the run `normal`, faulty ones those from the
//! onset of a fault on. Most windows of a fault's time are not touched by it, so no model finds all.

mod variants;

use std::{collections::BTreeMap, path::Path};

use anyhow::Context as _;
use stethos::learning::training_set::{self, TrainingSet};
use stethos_bundle::{Bundle, PATTERN_FLOOR};
use stethos_patterns::{Vocabulary, Window, cluster::PatternIndex, score::window_score};
use stethos_trainer::{TrainConfig, TrainingInput, corpus::Sequence, markov::Markov};

use crate::{
    corpus::{Label, labels},
    figures::Figures,
    judge::Judge,
    metrics::{auc, limit, share_above},
    simple::{Bag, Stide},
};

const ORDER: usize = 8;
/// Windows of a pattern from which on it has a GRU of its own.
const ENOUGH: usize = 1000;
const CACHE: std::num::NonZeroUsize = std::num::NonZeroUsize::MIN.saturating_add(4095);

/// Share of normal windows that may be taken for faulty, and what it is called.
const RATES: [(f64, &str); 2] = [(0.001, "tpr_at_0.1"), (0.01, "tpr_at_1")];

/// A distinct window, how often it came, and what each model says of it.
struct Scored {
    count: u64,
    scores: BTreeMap<&'static str, f64>,
}

pub(crate) fn run(folder: &Path) -> anyhow::Result<Figures> {
    each(folder, measure)
}

/// Other settings of the GRU.
pub(crate) fn variants(folder: &Path) -> anyhow::Result<Figures> {
    each(folder, variants::measure)
}

/// Names and values of figures; those of one fault alone have its name behind a colon.
type Measured = Vec<(String, Option<f64>)>;

/// Measures every product that has a run to learn from, one of normal time, and faults.
fn each(
    folder: &Path,
    measure: impl Fn(&Label, &Label, &[&Label]) -> anyhow::Result<Measured>,
) -> anyhow::Result<Figures> {
    let labels = labels(folder)?;
    let mut figures = Figures::default();
    for train in labels.iter().filter(|label| label.run == "train") {
        let of_product = |label: &&Label| label.product == train.product;
        let is_faulty = |label: &&Label| label.fault_onset_unix_ns.is_some();
        let others = || labels.iter().filter(of_product);
        let faults: Vec<&Label> = others().filter(is_faulty).collect();
        let normal = others().find(|label| label.run == "normal");
        let (Some(normal), false) = (normal, faults.is_empty()) else {
            continue;
        };
        let product = &train.product;
        eprintln!("sequences of {product}");
        for (name, value) in measure(train, normal, &faults).context(product.clone())? {
            figures.add(&format!("learning.{product}.{name}"), value, "");
            if !name.contains(':') {
                figures.add(&format!("learning.mean.{name}"), value, "");
            }
        }
    }
    Ok(figures)
}

fn measure(train: &Label, normal: &Label, faults: &[&Label]) -> anyhow::Result<Measured> {
    let set = training_set::read(std::slice::from_ref(&train.file), None)?;
    let mut models = Models::learn(&set)?;
    let normal = models.score(normal.read()?.windows.iter())?;
    let mut faulty = Vec::new();
    for fault in faults {
        faulty.push((fault.run.as_str(), models.score(fault.read()?.faulty())?));
    }

    let mut figures = Vec::new();
    for name in NAMES {
        for (once, kind) in [(false, "all"), (true, "distinct")] {
            let of = |scored: &[Scored]| expanded(scored, name, once);
            let negatives = of(&normal);
            let positives: Vec<f64> = faulty.iter().flat_map(|(_, scored)| of(scored)).collect();
            let key = |figure: &str| format!("{name}.{kind}.{figure}");
            figures.push((key("auc"), auc(&negatives, &positives)));
            for (rate, figure) in RATES {
                let limit = limit(&negatives, rate);
                let found = limit.and_then(|limit| share_above(&positives, limit));
                figures.push((key(figure), found));
            }
            for (fault, scored) in &faulty {
                let value = auc(&negatives, &of(scored));
                figures.push((format!("{name}.{kind}.auc:{fault}"), value));
            }
        }
    }
    let above = expanded(&normal, ABOVE, false);
    figures.push((
        "gru.normal_above_limit".to_owned(),
        share_above(&above, 0.5),
    ));
    for (name, bits) in ["gru", "gru_alone", "markov8"].iter().zip(models.bits) {
        figures.push((format!("{name}.bits"), Some(bits)));
    }
    Ok(figures)
}

/// A score for each window, or for each distinct one.
fn expanded(scored: &[Scored], name: &str, once: bool) -> Vec<f64> {
    let of = |scored: &Scored| {
        let score = scored.scores.get(name).copied().unwrap_or(0.0);
        std::iter::repeat_n(score, if once { 1 } else { scored.count as usize })
    };
    scored.iter().flat_map(of).collect()
}

/// 1 for a window above the limit that the bundle has for it.
const ABOVE: &str = "above";

/// `joint`: with the surprise that a window of its pattern comes at all, as one more token's.
const NAMES: [&str; 9] = [
    "gru",
    "gru_joint",
    "markov8_joint",
    "gru_alone",
    "gru_each",
    "markov8",
    "markov8_alone",
    "stide6",
    "bag",
];

struct Models {
    vocabulary: Vocabulary,
    patterns: PatternIndex,
    /// -ln of the share of windows of each pattern, and of none.
    rarity: BTreeMap<Option<usize>, f32>,
    bundle: Bundle,
    with_patterns: Judge,
    alone: Judge,
    /// By pattern.
    each: BTreeMap<usize, Judge>,
    markov: Markov,
    stide: Stide,
    bag: Bag,
    /// Held-back loss of the GRU, of the one without patterns, and of the Markov model.
    bits: [f64; 3],
}

impl Models {
    fn learn(set: &TrainingSet) -> anyhow::Result<Self> {
        let conditioned = TrainConfig::default();
        let bare = TrainConfig {
            conditioned: false,
            ..TrainConfig::default()
        };
        let bundle = train(set, set.windows.clone(), &conditioned)?;
        let alone = train(set, set.windows.clone(), &bare)?;
        let vocabulary = Vocabulary::new(bundle.vocabulary.iter().copied());
        let mut patterns = PatternIndex::new(&bundle.patterns, PATTERN_FLOOR, CACHE);
        let mut by_pattern: BTreeMap<usize, Vec<Window>> = BTreeMap::new();
        let mut counts: BTreeMap<(Vec<u16>, Option<usize>), u64> = BTreeMap::new();
        for window in &set.windows {
            let pattern = patterns.nearest(&window.codes()).map(|(index, _)| index);
            let ids = ids(&vocabulary, window);
            *counts.entry((ids, pattern)).or_default() += 1;
            if let Some(pattern) = pattern {
                by_pattern.entry(pattern).or_default().push(window.clone());
            }
        }
        let rarity = rarity(&counts, bundle.patterns.len());
        let mut each = BTreeMap::new();
        let enough = by_pattern
            .into_iter()
            .filter(|(_, windows)| windows.len() >= ENOUGH);
        for (pattern, windows) in enough {
            // Where nothing varies there is nothing to learn.
            if let Ok(bundle) = train(set, windows, &bare) {
                each.insert(pattern, Judge::new(&bundle)?);
            }
        }
        let sequences: Vec<Sequence> = counts
            .into_iter()
            .map(|((ids, pattern), count)| Sequence {
                ids,
                pattern,
                count,
            })
            .collect();
        let known = || sequences.iter().map(|sequence| &sequence.ids[..]);
        let counted = sequences.iter().map(|one| (&one.ids[..], one.count));
        let per_call = |nats: f64| nats / std::f64::consts::LN_2;
        Ok(Self {
            markov: Markov::new(&sequences, vocabulary.len(), ORDER),
            stide: Stide::new(known()),
            bag: Bag::new(counted, vocabulary.len()),
            with_patterns: Judge::new(&bundle)?,
            alone: Judge::new(&alone)?,
            each,
            bits: [bundle.card.loss, alone.card.loss, bundle.card.markov8_loss].map(per_call),
            vocabulary,
            patterns,
            rarity,
            bundle,
        })
    }

    /// Every distinct window, by each model.
    fn score<'a>(
        &mut self,
        windows: impl Iterator<Item = &'a Window>,
    ) -> anyhow::Result<Vec<Scored>> {
        let mut distinct: BTreeMap<Vec<u32>, (Window, u64)> = BTreeMap::new();
        for window in windows.filter(|window| !window.calls.is_empty()) {
            let entry = distinct.entry(window.codes());
            entry.or_insert_with(|| (window.clone(), 0)).1 += 1;
        }
        let windows: Vec<Window> = distinct
            .values()
            .map(|(window, _)| window.clone())
            .collect();
        let gru = self.with_patterns.surprises(&windows)?;
        let alone = self.alone.scores(&windows)?;
        let mut all = Vec::new();
        for (index, (window, count)) in distinct.into_values().enumerate() {
            let pattern = self
                .patterns
                .nearest(&window.codes())
                .map(|(index, _)| index);
            let sequence = Sequence {
                ids: ids(&self.vocabulary, &window),
                pattern,
                count,
            };
            let bare = Sequence {
                pattern: None,
                ..sequence.clone()
            };
            let each = match pattern.and_then(|pattern| self.each.get_mut(&pattern)) {
                Some(judge) => judge.scores(std::slice::from_ref(&window))?[0],
                None => alone[index],
            };
            let joint = |surprises: &[f32]| {
                let rarity = self.rarity.get(&pattern).copied().unwrap_or(0.0);
                window_score(&[surprises, &[rarity]].concat())
            };
            let markov = self.markov.surprises(&sequence, ORDER);
            let gru = &gru[index];
            let limit = self.bundle.thresholds.window_limit(pattern);
            let above = if window_score(gru) > limit { 1.0 } else { 0.0 };
            let scores = BTreeMap::from([
                (ABOVE, above),
                ("gru", window_score(gru)),
                ("gru_joint", joint(gru)),
                ("markov8_joint", joint(&markov)),
                ("gru_alone", alone[index]),
                ("gru_each", each),
                ("markov8", window_score(&markov)),
                (
                    "markov8_alone",
                    window_score(&self.markov.surprises(&bare, ORDER)),
                ),
                ("stide6", self.stide.score(&sequence.ids)),
                ("bag", self.bag.score(&sequence.ids)),
            ]);
            all.push(Scored { count, scores });
        }
        Ok(all)
    }
}

/// How surprising it is, in nats, that a window is of each pattern, and of none.
fn rarity(
    counts: &BTreeMap<(Vec<u16>, Option<usize>), u64>,
    patterns: usize,
) -> BTreeMap<Option<usize>, f32> {
    let mut of: BTreeMap<Option<usize>, u64> = (0..patterns).map(|one| (Some(one), 1)).collect();
    of.insert(None, 1);
    for ((_, pattern), count) in counts {
        *of.entry(*pattern).or_default() += count;
    }
    let all: u64 = of.values().sum();
    let nats = |count: u64| -(count as f64 / all as f64).ln() as f32;
    of.into_iter()
        .map(|(pattern, count)| (pattern, nats(count)))
        .collect()
}

fn ids(vocabulary: &Vocabulary, window: &Window) -> Vec<u16> {
    let calls = window.calls.iter();
    calls.map(|call| vocabulary.id(&call.token)).collect()
}

fn train(set: &TrainingSet, windows: Vec<Window>, config: &TrainConfig) -> anyhow::Result<Bundle> {
    let input = TrainingInput {
        arch: set.arch.clone(),
        container: set.container.clone(),
        created_unix: 0,
        windows,
        baseline: set.baseline.clone(),
        usage: set.usage.clone(),
        unseen_mass: 0.0,
        widened: false,
    };
    Ok(stethos_trainer::train(input, config, &mut |_| ())?)
}
