//! From windows to what is trained on: vocabulary, patterns, split, distinct windows.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;

use stethos_bundle::PATTERN_FLOOR;
use stethos_patterns::cluster::{
    ClusterConfig, FrozenPattern, OnlineClusters, PatternIndex, Quality, quality,
};
use stethos_patterns::{Token, Vocabulary, Window};

use crate::TrainError;

/// Blocks of equally many windows in order of time; one in [`HELD_BACK_EVERY`] is held back.
pub const BLOCKS: usize = 16;
pub const HELD_BACK_EVERY: usize = 4;
/// Fewest windows and calls to learn from.
pub const MIN_WINDOWS: usize = 64;
pub const MIN_CALLS: usize = 500;

/// A token has an id when it came at least this often in training.
const MIN_TOKEN_COUNT: u64 = 2;
const MAX_TOKENS: usize = 510;
const PATTERN_CACHE: NonZeroUsize = NonZeroUsize::MIN.saturating_add(65_535);

/// A window as the models see it, and how often it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    pub ids: Vec<u16>,
    /// Index among the frozen patterns.
    pub pattern: Option<usize>,
    pub count: u64,
}

/// Windows of one or more neighbouring blocks, in order of time, with their patterns.
pub(crate) type Stretch = Vec<(Window, Option<usize>)>;

/// Windows prepared for training.
#[derive(Debug)]
pub(crate) struct Corpus {
    pub(crate) vocabulary: Vocabulary,
    pub(crate) patterns: Vec<FrozenPattern>,
    pub(crate) training: Vec<Sequence>,
    pub(crate) held_back: Vec<Sequence>,
    /// Neighbouring training blocks, and the held-back blocks.
    pub(crate) training_stretches: Vec<Stretch>,
    pub(crate) held_back_stretches: Vec<Stretch>,
    pub(crate) windows: usize,
    pub(crate) calls: usize,
    pub(crate) seconds: f64,
}

impl Corpus {
    /// Without patterns unless `conditioned`.
    pub(crate) fn new(windows: Vec<Window>, conditioned: bool) -> Result<Self, TrainError> {
        let mut windows: Vec<Window> = windows
            .into_iter()
            .filter(|window| !window.calls.is_empty())
            .collect();
        windows.sort_by_key(|w| (w.start_ns(), w.stream(), w.sequence));
        let calls = windows.iter().map(|window| window.calls.len()).sum();
        for (what, found, needed) in [
            ("windows", windows.len(), MIN_WINDOWS),
            ("calls", calls, MIN_CALLS),
        ] {
            if found < needed {
                return Err(TrainError::TooLittle {
                    what,
                    found,
                    needed,
                });
            }
        }
        let start = windows.first().map_or(0, Window::start_ns);
        let end = windows.iter().map(Window::end_ns).max().unwrap_or(start);
        let count = windows.len();

        let (training, held_back) = split(windows);
        let vocabulary = vocabulary(training.iter().flatten())?;
        let patterns = if conditioned {
            patterns(training.iter().flatten())
        } else {
            Vec::new()
        };
        let mut index = PatternIndex::new(&patterns, PATTERN_FLOOR, PATTERN_CACHE);
        let mut assign = |stretch: Vec<Window>| -> Stretch {
            let assigned = stretch.into_iter().map(|window| {
                let pattern = index.nearest(&window.codes()).map(|(pattern, _)| pattern);
                (window, pattern)
            });
            assigned.collect()
        };
        let training_stretches: Vec<Stretch> = training.into_iter().map(&mut assign).collect();
        let held_back_stretches: Vec<Stretch> = held_back.into_iter().map(&mut assign).collect();
        Ok(Corpus {
            training: distinct(&training_stretches, &vocabulary),
            held_back: distinct(&held_back_stretches, &vocabulary),
            vocabulary,
            patterns,
            training_stretches,
            held_back_stretches,
            windows: count,
            calls,
            seconds: end.saturating_sub(start) as f64 / 1e9,
        })
    }

    /// How well the patterns stand for the held-back windows.
    pub(crate) fn quality(&self) -> Quality {
        let mut counts: BTreeMap<Vec<u32>, f64> = BTreeMap::new();
        for (window, _) in self.held_back_stretches.iter().flatten() {
            *counts.entry(window.codes()).or_default() += 1.0;
        }
        let windows = counts.iter().map(|(codes, count)| (&codes[..], *count));
        quality(&self.patterns, windows, PATTERN_FLOOR)
    }
}

/// Training stretches and held-back blocks: the last block of every [`HELD_BACK_EVERY`].
fn split(windows: Vec<Window>) -> (Vec<Vec<Window>>, Vec<Vec<Window>>) {
    let (mut training, mut held_back) = (Vec::new(), Vec::new());
    let mut stretch = Vec::new();
    let count = windows.len();
    let held = |block: usize| block % HELD_BACK_EVERY == HELD_BACK_EVERY - 1;
    let mut previous = 0;
    for (place, window) in windows.into_iter().enumerate() {
        let block = place * BLOCKS / count;
        if held(block) != held(previous) {
            let done = std::mem::take(&mut stretch);
            if held(previous) {
                held_back.push(done)
            } else {
                training.push(done)
            }
        }
        previous = block;
        stretch.push(window);
    }
    if held(previous) {
        held_back.push(stretch)
    } else {
        training.push(stretch)
    }
    (training, held_back)
}

/// The most frequent tokens first, equals in order of the tokens.
fn vocabulary<'a>(windows: impl Iterator<Item = &'a Window>) -> Result<Vocabulary, TrainError> {
    let mut counts: HashMap<Token, u64> = HashMap::new();
    for call in windows.flat_map(|window| &window.calls) {
        *counts.entry(call.token).or_default() += 1;
    }
    counts.remove(&Token::GAP);
    counts.retain(|_, count| *count >= MIN_TOKEN_COUNT);
    if counts.len() < 2 {
        let reason = format!(
            "{} distinct calls came at least {MIN_TOKEN_COUNT} times, two are needed",
            counts.len()
        );
        return Err(TrainError::Degenerate(reason));
    }
    let mut tokens: Vec<(Token, u64)> = counts.into_iter().collect();
    tokens.sort_by_key(|&(token, count)| (std::cmp::Reverse(count), token));
    Ok(Vocabulary::new(
        tokens.into_iter().take(MAX_TOKENS).map(|(token, _)| token),
    ))
}

fn patterns<'a>(windows: impl Iterator<Item = &'a Window>) -> Vec<FrozenPattern> {
    let mut clusters = OnlineClusters::new(ClusterConfig::default());
    for window in windows {
        clusters.assign(&window.codes());
    }
    clusters.freeze()
}

/// Distinct sequences in order of their ids.
fn distinct(stretches: &[Stretch], vocabulary: &Vocabulary) -> Vec<Sequence> {
    let mut counts: BTreeMap<(Vec<u16>, Option<usize>), u64> = BTreeMap::new();
    for (window, pattern) in stretches.iter().flatten() {
        let ids = window
            .calls
            .iter()
            .map(|call| vocabulary.id(&call.token))
            .collect();
        *counts.entry((ids, *pattern)).or_default() += 1;
    }
    let sequences = counts.into_iter();
    sequences
        .map(|((ids, pattern), count)| Sequence {
            ids,
            pattern,
            count,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use stethos_patterns::{Role, WindowCall};

    fn window(at_ns: u64) -> Window {
        let call = |nr| WindowCall {
            token: Token::new(nr, 0),
            role: Role::None,
            fd: -1,
            ret: 0,
            enter_ns: at_ns,
            duration_ns: 1,
        };
        let calls = (0..8).map(call).collect();
        Window {
            container: 0,
            pid: 1,
            tid: 1,
            sequence: at_ns,
            weight: 1,
            whole: true,
            calls,
        }
    }

    #[test]
    fn no_block_is_on_both_sides_and_a_quarter_is_held_back() {
        let (training, held_back) = split((0..1600).map(window).collect());
        let starts = |part: &[Vec<Window>]| -> Vec<u64> {
            part.iter().flatten().map(Window::start_ns).collect()
        };
        assert_eq!(starts(&held_back).len(), 400);
        assert_eq!(starts(&training).len(), 1200);
        assert!(starts(&held_back).iter().all(|at| (at / 100) % 4 == 3));
        assert!(held_back.iter().all(|block| block.len() == 100));
        assert_eq!(held_back.last().unwrap().last().unwrap().start_ns(), 1599);
    }

    #[test]
    fn says_how_much_is_missing() {
        let error = Corpus::new((0..10).map(window).collect(), true)
            .unwrap_err()
            .to_string();
        assert!(error.contains("10 windows, at least 64"), "{error}");
    }

    #[test]
    fn one_call_alone_is_nothing_to_learn() {
        let windows = (0..200).map(|at| {
            let mut window = window(at);
            window
                .calls
                .iter_mut()
                .for_each(|call| call.token = Token::new(0, 0));
            window
        });
        assert!(matches!(
            Corpus::new(windows.collect(), true),
            Err(TrainError::Degenerate(_))
        ));
    }
}
