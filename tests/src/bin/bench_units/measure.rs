//! How well a way of cutting serves the models: measured on the second half of a recording
//! against its first half.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    f64::consts::LN_2,
    num::NonZeroUsize,
};

use anyhow::bail;
use serde_json::{Value, json};
use stethos_bundle::PATTERN_FLOOR;
use stethos_patterns::cluster::{ClusterConfig, OnlineClusters, PatternIndex};
use stethos_patterns::score::window_score;
use stethos_trainer::{corpus::Sequence, markov::Markov};

use crate::{changes, recut::Unit};

const ORDER: usize = 8;
const CONTEXT: usize = 4;
/// Normal units that count as strange: one in so many calls.
const FALSE_ALARM_EVERY: usize = 20_000;
const CACHE: NonZeroUsize = NonZeroUsize::MIN.saturating_add(65_535);

/// `changed` are the same units with single calls changed in the second half.
pub(crate) fn measure(way: &str, units: &[Unit], changed: &[Unit]) -> anyhow::Result<Value> {
    let first_ns = units.iter().map(Unit::start_ns).min().unwrap_or(0);
    let last_ns = units.iter().map(Unit::start_ns).max().unwrap_or(0);
    let middle_ns = first_ns.midpoint(last_ns);
    let mut units: Vec<&Unit> = units.iter().collect();
    units.sort_by_key(|unit| unit.start_ns());
    let (first, second) = units.split_at(units.partition_point(|u| u.start_ns() < middle_ns));
    if first.is_empty() || second.is_empty() {
        bail!("too little was recorded");
    }
    let codes = |units: &[&Unit]| -> Vec<Vec<u32>> { units.iter().map(|u| codes(u)).collect() };
    let (known, new) = (codes(first), codes(second));
    let calls: usize = units.iter().map(|unit| unit.calls.len()).sum();

    let distinct: HashSet<&[u32]> = known.iter().map(Vec::as_slice).collect();
    let seen = new
        .iter()
        .filter(|codes| distinct.contains(codes.as_slice()));
    let contexts = contexts(&units, middle_ns);
    let entropy = Entropy::new(&known, &new);
    let (patterns, covered) = patterns(&known, &new);
    let seconds = last_ns.saturating_sub(first_ns) as f64 / 1e9;
    Ok(json!({
        "way": way,
        "calls": calls,
        "windows_per_second": units.len() as f64 / seconds.max(1e-9),
        "length": calls as f64 / units.len() as f64,
        "seen": share(seen.count(), new.len()),
        "contexts_seen": contexts,
        "bits_4": entropy.bits(4),
        "bits_8": entropy.bits(ORDER),
        "bits_8_with_ends": entropy.bits_with_ends,
        "patterns": patterns,
        "covered": covered,
        "found": entropy.found(&new, changed),
    }))
}

fn codes(unit: &Unit) -> Vec<u32> {
    unit.calls.iter().map(|call| call.token.code()).collect()
}

fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// Share of the second half's contexts that the first half has; contexts go on from one unit of a
/// stream to the next.
fn contexts(units: &[&Unit], middle_ns: u64) -> f64 {
    let mut last: HashMap<(u64, i32), [u32; CONTEXT]> = HashMap::new();
    let mut known = HashSet::new();
    let (mut seen, mut all) = (0, 0);
    for unit in units {
        let last = last.entry(unit.stream).or_default();
        for code in codes(unit) {
            last.rotate_left(1);
            last[CONTEXT - 1] = code;
            if unit.start_ns() < middle_ns {
                known.insert(*last);
            } else {
                all += 1;
                seen += usize::from(known.contains(last));
            }
        }
    }
    share(seen, all)
}

/// Cross-entropy of the second half under a Markov model of the first, in bits a call.
struct Entropy {
    ids: HashMap<u32, u16>,
    model: Markov,
    new: Vec<Sequence>,
    bits_with_ends: f64,
}

impl Entropy {
    fn new(known: &[Vec<u32>], new: &[Vec<u32>]) -> Self {
        let mut ids: HashMap<u32, u16> = HashMap::new();
        for code in known.iter().flatten() {
            let next = ids.len() as u16 + 1;
            ids.entry(*code).or_insert(next);
        }
        // 0 is unknown, the last one the end of a unit.
        let end = ids.len() as u16 + 1;
        let vocabulary = usize::from(end) + 1;
        let (plain_known, plain_new) = (sequences(known, &ids, None), sequences(new, &ids, None));
        let (ended_known, ended_new) = (
            sequences(known, &ids, Some(end)),
            sequences(new, &ids, Some(end)),
        );
        let calls: usize = new.iter().map(Vec::len).sum();
        let with_ends = calls + new.len();
        let ended = Markov::new(&ended_known, vocabulary, ORDER).loss(&ended_new, ORDER);
        Entropy {
            ids,
            model: Markov::new(&plain_known, vocabulary, ORDER),
            new: plain_new,
            bits_with_ends: ended / LN_2 * with_ends as f64 / calls.max(1) as f64,
        }
    }

    /// Share of the changes that are in a unit stranger than normal ones, by the score that
    /// diagnosis uses.
    fn found(&self, normal: &[Vec<u32>], changed: &[Unit]) -> f64 {
        let mut known: HashMap<Vec<u32>, f64> = HashMap::new();
        let mut score = |codes: Vec<u32>| match known.get(&codes) {
            Some(score) => *score,
            None => {
                let score = self.score(&codes);
                known.insert(codes, score);
                score
            }
        };
        let mut usual: Vec<f64> = normal.iter().map(|codes| score(codes.clone())).collect();
        usual.sort_by(f64::total_cmp);
        let calls: usize = normal.iter().map(Vec::len).sum();
        let alarms = (calls / FALSE_ALARM_EVERY).min(usual.len().saturating_sub(1));
        let limit = usual.iter().rev().nth(alarms).copied().unwrap_or(0.0);
        let mut found: BTreeMap<i64, bool> = BTreeMap::new();
        for unit in changed {
            let mut marks = unit.calls.iter().filter_map(changes::shown).peekable();
            if marks.peek().is_some() {
                let strange = score(codes(unit)) > limit;
                marks.for_each(|mark| *found.entry(mark).or_default() |= strange);
            }
        }
        share(found.values().filter(|found| **found).count(), found.len())
    }

    fn score(&self, codes: &[u32]) -> f64 {
        let of = |codes: &[u32]| {
            let one = sequences(&[codes.to_vec()], &self.ids, None);
            self.model.loss(&one, ORDER) * codes.len() as f64
        };
        let sums: Vec<f64> = (0..=codes.len())
            .map(|length| of(&codes[..length]))
            .collect();
        let surprise: Vec<f32> = sums
            .windows(2)
            .map(|two| (two[1] - two[0]) as f32)
            .collect();
        window_score(&surprise)
    }

    fn bits(&self, order: usize) -> f64 {
        self.model.loss(&self.new, order) / LN_2
    }
}

fn sequences(units: &[Vec<u32>], ids: &HashMap<u32, u16>, end: Option<u16>) -> Vec<Sequence> {
    let mut counts: HashMap<&[u32], u64> = HashMap::new();
    for unit in units {
        *counts.entry(unit).or_default() += 1;
    }
    let known = |code: &u32| ids.get(code).copied().unwrap_or(0);
    counts
        .into_iter()
        .map(|(codes, count)| Sequence {
            ids: codes.iter().map(known).chain(end).collect(),
            pattern: None,
            count,
        })
        .collect()
}

/// How many patterns the first half has, and what share of the second half's units belongs to one.
fn patterns(known: &[Vec<u32>], new: &[Vec<u32>]) -> (usize, f64) {
    let mut clusters = OnlineClusters::new(ClusterConfig::default());
    for codes in known {
        clusters.assign(codes);
    }
    let frozen = clusters.freeze();
    let mut index = PatternIndex::new(&frozen, PATTERN_FLOOR, CACHE);
    let covered = new.iter().filter(|codes| index.nearest(codes).is_some());
    (frozen.len(), share(covered.count(), new.len()))
}
