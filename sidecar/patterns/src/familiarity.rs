//! How much of what a container does is still unseen.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroUsize;

use hashbrown::HashMap;
use lru::LruCache;

/// Number of consecutive tokens of one thread that make a context.
pub const CONTEXT: usize = 4;

/// Hash of a run of token codes; equal on every machine for one version of the sidecar.
pub fn codes_hash(codes: &[u32]) -> u64 {
    let mut hasher = DefaultHasher::new();
    codes.hash(&mut hasher);
    hasher.finish()
}

/// Keeps the last tokens of every thread and turns each new token into the hash of its context:
/// itself and the [`CONTEXT`] - 1 tokens before it. Bounded: the thread that was silent for
/// longest is forgotten first and then starts anew.
#[derive(Clone, Debug)]
pub struct Contexts {
    streams: LruCache<u64, [u32; CONTEXT]>,
}

impl Contexts {
    /// Stands for "nothing yet"; no token has this code.
    const EMPTY: u32 = u32::MAX - 1;

    pub fn new(max_streams: NonZeroUsize) -> Self {
        Contexts {
            streams: LruCache::new(max_streams),
        }
    }

    /// `stream` is [`crate::Window::stream`], `code` is [`crate::Token::code`].
    pub fn push(&mut self, stream: u64, code: u32) -> u64 {
        let last = self
            .streams
            .get_or_insert_mut(stream, || [Self::EMPTY; CONTEXT]);
        last.rotate_left(1);
        last[CONTEXT - 1] = code;
        codes_hash(last)
    }

    pub fn forget(&mut self, stream: u64) {
        self.streams.pop(&stream);
    }
}

/// Good–Turing estimate of the probability that the next context is one never seen before
/// (Good 1953: singletons / observations), over the most recent blocks of observations. A block
/// ends with [`GoodTuring::advance`]; without that all observations count.
///
/// Bounded in memory: when full, contexts seen once and not lately are forgotten; if even that
/// makes no room, further new ones count as unseen.
#[derive(Clone, Debug)]
pub struct GoodTuring {
    /// Block of first sight of contexts seen once, [`SEEN_AGAIN`] for the rest.
    contexts: HashMap<u64, u64>,
    capacity: usize,
    recent: VecDeque<Block>,
    max_recent: usize,
    /// Number of the newest block.
    block: u64,
    observations: u64,
}

const SEEN_AGAIN: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, Default)]
struct Block {
    observations: u64,
    /// Contexts first seen in this block and not since.
    singletons: u64,
}

impl GoodTuring {
    /// 12 blocks, 65 536 contexts.
    pub fn new() -> Self {
        Self::with_bounds(12, 65_536)
    }

    /// `blocks`: how many blocks the estimate covers; `contexts`: how many are remembered.
    pub fn with_bounds(blocks: usize, contexts: usize) -> Self {
        GoodTuring {
            contexts: HashMap::new(),
            capacity: contexts.max(1),
            recent: VecDeque::from([Block::default()]),
            max_recent: blocks.max(1),
            block: 0,
            observations: 0,
        }
    }

    /// Takes the hash of one context. True when it was never seen before (or was forgotten).
    pub fn observe(&mut self, context: u64) -> bool {
        self.observations += 1;
        if let Some(first_seen) = self.contexts.get_mut(&context) {
            let first_seen = std::mem::replace(first_seen, SEEN_AGAIN);
            if let Some(block) = self.block_mut(first_seen) {
                block.singletons -= 1;
            }
            if let Some(newest) = self.recent.back_mut() {
                newest.observations += 1;
            }
            return false;
        }
        if self.contexts.len() >= self.capacity {
            self.make_room();
        }
        if self.contexts.len() < self.capacity {
            self.contexts.insert(context, self.block);
        }
        if let Some(newest) = self.recent.back_mut() {
            newest.observations += 1;
            newest.singletons += 1;
        }
        true
    }

    /// Ends the current block: call it at equal intervals. Empty blocks are not made, so that a
    /// quiet container keeps its last estimate.
    pub fn advance(&mut self) {
        if self
            .recent
            .back()
            .is_none_or(|newest| newest.observations == 0)
        {
            return;
        }
        self.block += 1;
        self.recent.push_back(Block::default());
        if self.recent.len() > self.max_recent {
            self.recent.pop_front();
        }
    }

    /// Share (0…1) of the next contexts that are expected to be new: 1 before the first
    /// observation, `(singletons + 1) / (observations + 1)` over the recent blocks after it.
    pub fn unseen_mass(&self) -> f64 {
        let (singletons, observations) = self.recent.iter().fold((0, 0), |(s, o), block| {
            (s + block.singletons, o + block.observations)
        });
        (singletons + 1) as f64 / (observations + 1) as f64
    }

    /// Contexts observed since the start, repeats included.
    pub fn observations(&self) -> u64 {
        self.observations
    }

    /// Distinct contexts remembered.
    pub fn distinct(&self) -> usize {
        self.contexts.len()
    }

    fn block_mut(&mut self, number: u64) -> Option<&mut Block> {
        let oldest = self.block + 1 - self.recent.len() as u64;
        self.recent
            .get_mut(usize::try_from(number.checked_sub(oldest)?).ok()?)
    }

    fn make_room(&mut self) {
        let oldest_recent = self.block + 1 - self.recent.len() as u64;
        self.contexts
            .retain(|_, first_seen| *first_seen >= oldest_recent);
    }
}

impl Default for GoodTuring {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn contexts_are_the_last_four_tokens_of_a_thread() {
        let mut contexts = Contexts::new(NonZeroUsize::new(2).unwrap());
        let first: Vec<u64> = [1, 2, 3, 4, 5].map(|code| contexts.push(1, code)).into();
        // Another thread between changes nothing.
        contexts.push(2, 9);
        let again: Vec<u64> = [1, 2, 3, 4, 5].map(|code| contexts.push(1, code)).into();
        assert_ne!(first[0], again[0]);
        assert_eq!(first[3..], again[3..]);
        assert_eq!(contexts.push(3, 1), first[0]);
        assert_eq!(contexts.push(4, 1), first[0]);
        // Thread 1 was forgotten to make room.
        assert_eq!(contexts.push(1, 1), first[0]);
        contexts.forget(1);
        assert_eq!(contexts.push(1, 1), first[0]);
    }

    #[test]
    fn familiar_work_brings_the_unseen_mass_down() {
        let mut unseen = GoodTuring::new();
        assert_eq!(unseen.unseen_mass(), 1.0);
        for context in 0..1000 {
            assert!(unseen.observe(context));
        }
        assert_eq!(unseen.unseen_mass(), 1.0);
        for context in 0..1000 {
            assert!(!unseen.observe(context));
        }
        assert_eq!(unseen.unseen_mass(), 1.0 / 2001.0);
        assert_eq!((unseen.observations(), unseen.distinct()), (2000, 1000));
    }

    #[test]
    fn only_recent_blocks_count() {
        let mut unseen = GoodTuring::with_bounds(2, 1000);
        for context in 0..100 {
            unseen.observe(context);
        }
        for _ in 0..2 {
            unseen.advance();
            for _ in 0..100 {
                unseen.observe(7);
            }
        }
        // The start-up with its singletons is out of the estimate.
        assert_eq!(unseen.unseen_mass(), 1.0 / 201.0);
        // Quiet time does not end blocks.
        for _ in 0..10 {
            unseen.advance();
        }
        assert_eq!(unseen.unseen_mass(), 1.0 / 101.0);
        // New behaviour shows at once.
        for context in 1000..1099 {
            unseen.observe(context);
        }
        assert_eq!(unseen.unseen_mass(), 100.0 / 200.0);
    }

    #[test]
    fn memory_is_bounded_and_overflow_is_unseen() {
        let mut unseen = GoodTuring::with_bounds(4, 100);
        for context in 0..100_000 {
            unseen.observe(context);
            if context % 1000 == 0 {
                unseen.advance();
            }
            assert!(unseen.distinct() <= 100);
        }
        assert_eq!(unseen.unseen_mass(), 1.0);
    }

    #[test]
    fn old_singletons_make_room_for_what_is_new() {
        let mut unseen = GoodTuring::with_bounds(1, 100);
        for context in 0..100 {
            unseen.observe(context);
        }
        unseen.observe(0);
        unseen.advance();
        assert!(unseen.observe(1000));
        assert!(!unseen.observe(1000));
        assert!(!unseen.observe(0));
        assert!(unseen.observe(1));
    }

    proptest! {
        /// Against the definition: contexts seen exactly once in all of history, whose one
        /// sight lies in the recent blocks.
        #[test]
        fn singletons_are_counted_exactly(
            blocks in prop::collection::vec(prop::collection::vec(0..60u64, 1..40), 1..8),
        ) {
            let mut unseen = GoodTuring::with_bounds(3, 1000);
            for (index, block) in blocks.iter().enumerate() {
                if index > 0 {
                    unseen.advance();
                }
                for context in block {
                    unseen.observe(*context);
                }
            }
            let mut counts: HashMap<u64, u64> = HashMap::new();
            blocks.iter().flatten().for_each(|context| *counts.entry(*context).or_default() += 1);
            let recent: Vec<u64> =
                blocks.iter().skip(blocks.len().saturating_sub(3)).flatten().copied().collect();
            let singletons = recent.iter().filter(|context| counts[context] == 1).count();
            let expected = (singletons + 1) as f64 / (recent.len() + 1) as f64;
            prop_assert_eq!(unseen.unseen_mass(), expected);
        }
    }
}
