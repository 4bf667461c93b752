//! How a container spends its calls in one interval, as a vector of fixed length: what the
//! autoencoder reads.
//!
//! Five times the load with the same mix of work gives the same profile up to sampling noise:
//! nothing in it is a count or a rate. Waits are left out because their number and duration
//! follow the load, reads of server sockets because they wait for clients.

mod layout;

use crate::names::{self, CallTable};
use crate::token::{Outcome, Token};
use crate::vocabulary::Vocabulary;
use crate::window::{Window, WindowCall};
pub use layout::ProfileLayout;
use layout::{DURATIONS, SIZES, duration_slot, size_slot};

/// Weight, in calls, of the typical value of the layout in a mean: a mean of few calls does not
/// stand out, and one of none is typical.
const PRIOR: f64 = 1.0;

/// One interval of one container.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Calls behind the values, waits and gaps not counted. Each counts once, whatever the weight
    /// of its window.
    pub calls: u64,
    /// The same of windows.
    pub windows: u64,
    /// [`ProfileLayout::dimension`] values.
    pub values: Vec<f32>,
}

impl Profile {
    /// Calls from which on the shares are worth judging.
    pub const MIN_CALLS: u64 = 200;

    /// False for intervals that are too quiet to be judged.
    pub fn is_sufficient(&self) -> bool {
        self.calls >= Self::MIN_CALLS
    }
}

/// Collects one interval after the other.
#[derive(Debug)]
pub struct ProfileBuilder {
    layout: ProfileLayout,
    vocabulary: Vocabulary,
    table: &'static CallTable,
    counts: Counts,
}

#[derive(Debug)]
struct Counts {
    /// Without and with their weight.
    calls: u64,
    weighed: u64,
    windows: u64,
    errors: u64,
    tokens: Vec<u64>,
    /// Calls in windows of each pattern; the last is for no pattern.
    patterns: Vec<u64>,
    durations: [Mean; DURATIONS],
    sizes: [Mean; SIZES],
}

/// Mean of logarithms.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    sum: f64,
    count: f64,
}

impl Mean {
    fn record(&mut self, value: u64, weight: u64) {
        self.sum += (value as f64).ln_1p() * weight as f64;
        self.count += weight as f64;
    }

    fn drawn_towards(&self, typical: f32) -> f32 {
        ((self.sum + PRIOR * f64::from(typical)) / (self.count + PRIOR)) as f32
    }
}

impl Counts {
    fn new(layout: &ProfileLayout) -> Self {
        Counts {
            calls: 0,
            weighed: 0,
            windows: 0,
            errors: 0,
            tokens: vec![0; layout.token_slots()],
            patterns: vec![0; layout.patterns() + 1],
            durations: [Mean::default(); DURATIONS],
            sizes: [Mean::default(); SIZES],
        }
    }
}

impl ProfileBuilder {
    /// `layout` must come from the same vocabulary; `arch` says what call numbers mean.
    pub fn new(layout: ProfileLayout, vocabulary: Vocabulary, arch: &str) -> Self {
        let counts = Counts::new(&layout);
        ProfileBuilder {
            layout,
            vocabulary,
            table: names::table(arch),
            counts,
        }
    }

    /// Takes one window, as often as its weight says; `pattern` is its index among the frozen
    /// patterns.
    pub fn window(&mut self, window: &Window, pattern: Option<usize>) {
        let before = self.counts.weighed;
        let weight = u64::from(window.weight);
        for call in &window.calls {
            self.call(call, weight);
        }
        self.counts.windows += 1;
        let none = self.layout.patterns();
        let slot = pattern.filter(|index| *index < none).unwrap_or(none);
        self.counts.patterns[slot] += self.counts.weighed - before;
    }

    fn call(&mut self, call: &WindowCall, weight: u64) {
        if call.token == Token::GAP || self.table.is_wait(call.token.call) {
            return;
        }
        self.counts.calls += 1;
        self.counts.weighed += weight;
        self.counts.errors += u64::from(call.token.outcome.is_error()) * weight;
        self.counts.tokens[self.layout.token_slot(self.vocabulary.id(&call.token))] += weight;
        if call.token.outcome != Outcome::Ok {
            return;
        }
        let kind = self.table.kind(call.token.call);
        if let Some(slot) = duration_slot(kind, call.role) {
            self.counts.durations[slot].record(call.duration_ns, weight);
        }
        if let Some(slot) = size_slot(kind, call.role) {
            self.counts.sizes[slot].record(call.ret.unsigned_abs(), weight);
        }
    }

    /// The profile of the interval since the last call of this function, which starts the next.
    pub fn finish(&mut self) -> Profile {
        let counts = std::mem::replace(&mut self.counts, Counts::new(&self.layout));
        let all = counts.weighed.max(1) as f64;
        // The square root makes the sampling noise of a share independent of the share.
        let share = |n: &u64| (*n as f64 / all).sqrt() as f32;
        let mut values: Vec<f32> = Vec::with_capacity(self.layout.dimension());
        values.extend(counts.tokens.iter().map(share));
        values.extend(counts.patterns.iter().map(share));
        values.push(share(&counts.errors));
        let means = counts.durations.iter().chain(&counts.sizes);
        values.extend(
            means
                .zip(self.layout.typical())
                .map(|(mean, t)| mean.drawn_towards(*t)),
        );
        Profile {
            calls: counts.calls,
            windows: counts.windows,
            values,
        }
    }

    pub fn layout(&self) -> &ProfileLayout {
        &self.layout
    }
}

#[cfg(test)]
mod tests;
