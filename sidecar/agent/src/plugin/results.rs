//! Verdicts of windows seen before. Scoring is a pure function of model and window, so a kept
//! verdict is the verdict.

use std::num::NonZeroUsize;

use lru::LruCache;

use super::contract::TokenWindow;
use super::host::ModelId;
use crate::diagnosis::verdict::Verdict;

pub(super) struct Results {
    verdicts: LruCache<Box<[u16]>, Verdict>,
}

/// Model, pattern and tokens of a window in one sequence.
pub(super) fn key(model: ModelId, window: &TokenWindow, key: &mut Vec<u16>) {
    let halves = |number: u32| [(number >> 16) as u16, number as u16];
    key.clear();
    key.extend(halves(model.0));
    key.push(u16::from(window.pattern.is_some()));
    key.extend(halves(window.pattern.unwrap_or_default()));
    key.extend(&window.tokens);
}

impl Results {
    pub(super) fn new(limit: usize) -> Self {
        Results {
            verdicts: LruCache::new(NonZeroUsize::new(limit).unwrap_or(NonZeroUsize::MIN)),
        }
    }

    pub(super) fn get(&mut self, key: &[u16]) -> Option<&Verdict> {
        self.verdicts.get(key)
    }

    pub(super) fn put(&mut self, key: Box<[u16]>, verdict: Verdict) {
        self.verdicts.put(key, verdict);
    }
}
