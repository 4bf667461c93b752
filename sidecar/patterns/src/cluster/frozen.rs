//! Patterns as a model was trained on them.

use std::num::NonZeroUsize;

use lru::LruCache;
use serde::{Deserialize, Serialize};

use crate::familiarity::codes_hash;
use crate::similarity::Comparator;

/// One pattern of a model bundle. Models and plugins know it by its index in the bundle's list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrozenPattern {
    /// [`super::Pattern::id`] at the time of training.
    pub id: u32,
    /// Codes ([`crate::Token::code`]) of the window that stands for the pattern.
    pub medoid: Vec<u32>,
    /// Windows seen in learning.
    pub windows: u64,
    /// Distinct ones among them, approximately.
    pub distinct: u64,
    /// Of the sampled windows with the medoid, 0…1.
    pub mean_similarity: f64,
}

/// Index of the pattern whose medoid is most similar to the window (the first of equals); none
/// when that similarity is below `floor`. For many windows use [`PatternIndex`].
pub fn nearest(patterns: &[FrozenPattern], window: &[u32], floor: f64) -> Option<usize> {
    let comparators = comparators(patterns);
    best(&comparators, window, None)
        .filter(|(_, s)| *s >= floor)
        .map(|(index, _)| index)
}

fn comparators(patterns: &[FrozenPattern]) -> Vec<Comparator> {
    patterns
        .iter()
        .map(|pattern| Comparator::new(&pattern.medoid))
        .collect()
}

fn best(comparators: &[Comparator], window: &[u32], except: Option<usize>) -> Option<(usize, f64)> {
    let mut best: Option<(usize, f64)> = None;
    for (index, comparator) in comparators.iter().enumerate() {
        let least = best.map_or(-1.0, |(_, similarity)| similarity);
        if Some(index) != except && comparator.bound(window.len()) > least {
            let similarity = comparator.similarity(window);
            if similarity > least {
                best = Some((index, similarity));
            }
        }
    }
    best
}

/// [`nearest`] for many windows: the medoids are prepared once and the answers for the windows
/// seen last are remembered.
#[derive(Debug)]
pub struct PatternIndex {
    comparators: Vec<Comparator>,
    floor: f64,
    cache: LruCache<u64, Option<(usize, f64)>>,
}

impl PatternIndex {
    pub fn new(patterns: &[FrozenPattern], floor: f64, cache: NonZeroUsize) -> Self {
        PatternIndex {
            comparators: comparators(patterns),
            floor,
            cache: LruCache::new(cache),
        }
    }

    /// Index and similarity of the nearest pattern within the floor.
    pub fn nearest(&mut self, window: &[u32]) -> Option<(usize, f64)> {
        let (comparators, floor) = (&self.comparators, self.floor);
        *self.cache.get_or_insert(codes_hash(window), || {
            best(comparators, window, None).filter(|(_, similarity)| *similarity >= floor)
        })
    }

    /// Number of patterns.
    pub fn len(&self) -> usize {
        self.comparators.len()
    }

    pub fn is_empty(&self) -> bool {
        self.comparators.is_empty()
    }
}

/// How well patterns stand for windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    pub patterns: usize,
    /// Share of windows whose similarity with the nearest medoid reaches the floor.
    pub coverage: f64,
    /// Mean similarity of windows with the nearest medoid.
    pub mean_similarity: f64,
    /// Simplified silhouette (Hruschka 2004), -1…1: mean of `(b - a) / max(a, b)` with `a` the
    /// distance `1 - similarity` to the nearest medoid and `b` that to the second nearest; 0
    /// with fewer than two patterns.
    pub silhouette: f64,
}

/// Figures over windows with their weights; all 0 without windows or patterns.
pub fn quality<'a>(
    patterns: &[FrozenPattern],
    windows: impl IntoIterator<Item = (&'a [u32], f64)>,
    floor: f64,
) -> Quality {
    let comparators = comparators(patterns);
    let mut total = 0.0;
    let mut figures = Quality {
        patterns: patterns.len(),
        ..Quality::default()
    };
    for (window, weight) in windows {
        let Some((index, similarity)) = best(&comparators, window, None) else {
            continue;
        };
        total += weight;
        figures.mean_similarity += weight * similarity;
        if similarity >= floor {
            figures.coverage += weight;
        }
        if let Some((_, second)) = best(&comparators, window, Some(index)) {
            let (a, b) = (1.0 - similarity, 1.0 - second);
            if b > 0.0 {
                figures.silhouette += weight * (b - a) / b;
            }
        }
    }
    if total > 0.0 {
        figures.coverage /= total;
        figures.mean_similarity /= total;
        figures.silhouette /= total;
    }
    figures
}
