//! Patterns: clusters of windows that do the same kind of work, found online by k-medoids over
//! LCS similarity.
//!
//! Every pattern keeps a bounded sample of its distinct windows; its medoid is the sampled
//! window that is most similar to the others, weighted by how often they came. A window far
//! from every medoid founds a pattern, patterns with nearly equal medoids become one, and when
//! room is needed the pattern that has not been seen for longest makes it. The same windows in
//! the same order give the same patterns.

mod frozen;
mod pattern;

use std::num::NonZeroUsize;

use lru::LruCache;
use serde::{Deserialize, Serialize};

use crate::familiarity::codes_hash;
pub use frozen::{FrozenPattern, PatternIndex, Quality, nearest, quality};
pub use pattern::Pattern;

/// Bounds and limits of [`OnlineClusters`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterConfig {
    /// Most patterns alive at a time.
    pub max_patterns: usize,
    /// Most distinct windows kept per pattern.
    pub max_sample: usize,
    /// Patterns whose medoids are more similar than this become one.
    pub merge_at: f64,
    /// A window less similar than this to every medoid founds a pattern.
    pub birth_below: f64,
    /// When there is no room, a pattern whose decayed share of the windows is below this may go.
    pub retire_below: f64,
    /// Windows after which an earlier window weighs half in the decayed share.
    pub half_life: u64,
    /// Distinct windows whose pattern is remembered.
    pub cache: usize,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        ClusterConfig {
            max_patterns: 48,
            max_sample: 32,
            merge_at: 0.9,
            birth_below: 0.6,
            retire_below: 0.001,
            half_life: 50_000,
            cache: 4096,
        }
    }
}

/// Where a window belongs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Assignment {
    /// [`Pattern::id`]; never reused.
    pub pattern: u32,
    /// Similarity with the pattern's medoid, 0…1.
    pub similarity: f64,
    /// The window founded the pattern.
    pub born: bool,
}

/// Online k-medoids, bounded in patterns and memory.
#[derive(Debug)]
pub struct OnlineClusters {
    config: ClusterConfig,
    /// In order of id.
    patterns: Vec<Pattern>,
    next_id: u32,
    windows: u64,
    retired: u64,
    merged: u64,
    /// Hash of a window's codes → its pattern.
    cache: LruCache<u64, Cached>,
    /// Counts changes of medoids and of the set of patterns.
    epoch: u64,
}

/// Valid while the pattern's medoid stays; when that is not very near, also only until another
/// pattern changes, which could be nearer.
#[derive(Clone, Copy, Debug)]
struct Cached {
    epoch: u64,
    pattern: u32,
    version: u32,
    similarity: f64,
}

impl OnlineClusters {
    pub fn new(config: ClusterConfig) -> Self {
        let config = ClusterConfig {
            max_patterns: config.max_patterns.max(1),
            max_sample: config.max_sample.max(1),
            half_life: config.half_life.max(1),
            ..config
        };
        let cache = NonZeroUsize::new(config.cache).unwrap_or(NonZeroUsize::MIN);
        OnlineClusters {
            config,
            patterns: Vec::new(),
            next_id: 0,
            windows: 0,
            retired: 0,
            merged: 0,
            cache: LruCache::new(cache),
            epoch: 0,
        }
    }

    /// Takes one window ([`crate::Window::codes`]) and says where it belongs.
    pub fn assign(&mut self, codes: &[u32]) -> Assignment {
        self.windows += 1;
        let hash = codes_hash(codes);
        if let Some((index, known)) = self.cached(hash) {
            self.patterns[index].count_again(hash, self.windows, self.config.half_life);
            return Assignment {
                pattern: known.pattern,
                similarity: known.similarity,
                born: false,
            };
        }
        match self.best(codes) {
            Some((index, similarity)) if similarity >= self.config.birth_below => {
                self.join(index, similarity, hash, codes)
            }
            best => match (self.make_room(), best) {
                (false, Some((index, similarity))) => self.join(index, similarity, hash, codes),
                _ => self.found(hash, codes),
            },
        }
    }

    /// The patterns alive, in order of id.
    pub fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    pub fn pattern(&self, id: u32) -> Option<&Pattern> {
        self.patterns.iter().find(|pattern| pattern.id() == id)
    }

    /// Windows taken since the start.
    pub fn windows(&self) -> u64 {
        self.windows
    }

    /// Patterns that made room for others.
    pub fn retired(&self) -> u64 {
        self.retired
    }

    /// Patterns that became part of another.
    pub fn merged(&self) -> u64 {
        self.merged
    }

    /// The patterns as a model is trained on them: most frequent first, then by id. A model
    /// knows a pattern by its index in this list.
    pub fn freeze(&self) -> Vec<FrozenPattern> {
        let mut frozen: Vec<FrozenPattern> = self.patterns.iter().map(Pattern::freeze).collect();
        frozen.sort_by_key(|pattern| (std::cmp::Reverse(pattern.windows), pattern.id));
        frozen
    }

    /// Figures over the sampled windows, each pattern weighted by all its windows.
    pub fn quality(&self, floor: f64) -> Quality {
        let windows = self.patterns.iter().flat_map(|pattern| {
            let scale = pattern.windows() as f64 / pattern.sampled().max(1) as f64;
            pattern
                .sample()
                .map(move |(codes, count)| (codes, count as f64 * scale))
        });
        quality(&self.freeze(), windows, floor)
    }

    /// Index of the pattern and what is remembered of the window, when that still holds.
    fn cached(&mut self, hash: u64) -> Option<(usize, Cached)> {
        let known = *self.cache.get(&hash)?;
        let index = self.index_of(known.pattern)?;
        let near = known.similarity >= self.config.merge_at || known.epoch == self.epoch;
        (near && self.patterns[index].version() == known.version).then_some((index, known))
    }

    fn remember(&mut self, hash: u64, index: usize, similarity: f64) {
        let pattern = &self.patterns[index];
        let (pattern, version) = (pattern.id(), pattern.version());
        self.cache.put(
            hash,
            Cached {
                epoch: self.epoch,
                pattern,
                version,
                similarity,
            },
        );
    }

    fn index_of(&self, id: u32) -> Option<usize> {
        self.patterns.iter().position(|pattern| pattern.id() == id)
    }

    /// Index of the pattern with the most similar medoid; the older one of equals.
    fn best(&self, codes: &[u32]) -> Option<(usize, f64)> {
        let mut best: Option<(usize, f64)> = None;
        for (index, pattern) in self.patterns.iter().enumerate() {
            let least = best.map_or(-1.0, |(_, similarity)| similarity);
            if pattern.bound(codes.len()) > least {
                let similarity = pattern.similarity(codes);
                if similarity > least {
                    best = Some((index, similarity));
                }
            }
        }
        best
    }

    fn join(
        &mut self,
        mut index: usize,
        mut similarity: f64,
        hash: u64,
        codes: &[u32],
    ) -> Assignment {
        let pattern = &mut self.patterns[index];
        let id = pattern.id();
        if pattern.add(hash, codes, self.windows, &self.config) {
            self.epoch += 1;
            self.merge_around(id);
            // The window may be the medoid now, or its pattern part of another.
            (index, similarity) = self.best(codes).unwrap_or((index, similarity));
        }
        self.remember(hash, index, similarity);
        Assignment {
            pattern: self.patterns[index].id(),
            similarity,
            born: false,
        }
    }

    fn found(&mut self, hash: u64, codes: &[u32]) -> Assignment {
        let id = self.next_id;
        self.next_id += 1;
        self.patterns
            .push(Pattern::found(id, hash, codes, self.windows));
        self.epoch += 1;
        self.remember(hash, self.patterns.len() - 1, 1.0);
        Assignment {
            pattern: id,
            similarity: 1.0,
            born: true,
        }
    }

    /// True when there is room for one more pattern, perhaps after retiring the one with the
    /// lowest decayed share.
    fn make_room(&mut self) -> bool {
        if self.patterns.len() < self.config.max_patterns {
            return true;
        }
        let (now, half_life) = (self.windows, self.config.half_life);
        let shares: Vec<f64> = self
            .patterns
            .iter()
            .map(|p| p.mass_at(now, half_life))
            .collect();
        let all: f64 = shares.iter().sum();
        let least = (0..shares.len()).min_by(|a, b| shares[*a].total_cmp(&shares[*b]));
        match least {
            Some(index) if shares[index] < self.config.retire_below * all => {
                self.patterns.remove(index);
                self.retired += 1;
                self.epoch += 1;
                true
            }
            _ => false,
        }
    }

    /// Joins patterns with a medoid too similar to that of pattern `id`, whose medoid has moved.
    fn merge_around(&mut self, id: u32) {
        let mut id = id;
        while let Some(index) = self.index_of(id) {
            let moved = &self.patterns[index];
            let twin = (0..self.patterns.len()).find(|other| {
                *other != index
                    && moved.bound(self.patterns[*other].medoid().len()) > self.config.merge_at
                    && moved.similarity(self.patterns[*other].medoid()) > self.config.merge_at
            });
            let Some(twin) = twin else { return };
            let weight = |index: usize| (self.patterns[index].windows(), std::cmp::Reverse(index));
            let (keep, give) = if weight(index) > weight(twin) {
                (index, twin)
            } else {
                (twin, index)
            };
            let given = self.patterns.remove(give);
            let keep = if give < keep { keep - 1 } else { keep };
            let kept = &mut self.patterns[keep];
            kept.absorb(given, self.windows, &self.config);
            id = kept.id();
            self.merged += 1;
            self.epoch += 1;
        }
    }
}

#[cfg(test)]
mod tests;
