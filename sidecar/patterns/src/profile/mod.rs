//! How a container spends its calls in one interval, as a vector of fixed length: what the
//! autoencoder reads.
//!
//! Five times the load with the same mix of work gives the same profile up to sampling noise:
//! nothing in it is a count or a rate. Waits are left out because their number and duration
//! follow the load, reads of server sockets because they wait for clients.

mod layout;

use crate::names::{self, CallKind, CallTable};
use crate::token::{Outcome, Token};
use crate::vocabulary::Vocabulary;
use crate::window::{Role, Window, WindowCall};
pub use layout::ProfileLayout;
use layout::{DURATIONS, SHORT_WAIT_NS, SIZES, duration_slot, size_slot};

/// Weight, in calls, of the typical value of the layout in a mean: a mean of few calls does not
/// stand out, and one of none is typical.
const PRIOR: f64 = 20.0;

/// One interval of one container.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Calls behind the shares of tokens, waits and gaps not counted.
    pub calls: u64,
    /// Windows that came in the interval.
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
///
/// While calls are only counted, the shares of tokens come from the counts, exactly, and what only
/// windows tell (patterns, durations, sizes) from a sample of them, over a longer time: at each
/// interval's end it keeps [`KEPT`] of what was there, beginning with the last whole interval.
#[derive(Debug)]
pub struct ProfileBuilder {
    layout: ProfileLayout,
    vocabulary: Vocabulary,
    table: &'static CallTable,
    tokens: TokenCounts,
    windows: WindowCounts,
    /// Of the last interval in which every window came.
    whole: Option<WindowCounts>,
    reduced: bool,
}

/// Share of the sampled windows' weight that an interval leaves to the next.
const KEPT: f64 = 0.98;

#[derive(Debug)]
struct TokenCounts {
    calls: u64,
    errors: u64,
    tokens: Vec<u64>,
}

#[derive(Clone, Debug)]
struct WindowCounts {
    windows: u64,
    /// Calls with the weight of their windows.
    calls: f64,
    /// Those in windows of each pattern; the last is for no pattern.
    patterns: Vec<f64>,
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
    fn record(&mut self, value: f64, weight: f64) {
        self.sum += value.ln_1p() * weight;
        self.count += weight;
    }

    fn drawn_towards(&self, typical: f32) -> f32 {
        ((self.sum + PRIOR * f64::from(typical)) / (self.count + PRIOR)) as f32
    }

    fn fade(&mut self, kept: f64) {
        self.sum *= kept;
        self.count *= kept;
    }
}

impl TokenCounts {
    fn new(layout: &ProfileLayout) -> Self {
        TokenCounts {
            calls: 0,
            errors: 0,
            tokens: vec![0; layout.token_slots()],
        }
    }
}

impl WindowCounts {
    fn new(layout: &ProfileLayout) -> Self {
        WindowCounts {
            windows: 0,
            calls: 0.0,
            patterns: vec![0.0; layout.patterns() + 1],
            durations: [Mean::default(); DURATIONS],
            sizes: [Mean::default(); SIZES],
        }
    }

    fn fade(&mut self, kept: f64) {
        self.windows = 0;
        self.calls *= kept;
        self.patterns.iter_mut().for_each(|calls| *calls *= kept);
        let means = self.durations.iter_mut().chain(&mut self.sizes);
        means.for_each(|mean| mean.fade(kept));
    }
}

impl ProfileBuilder {
    /// `layout` must come from the same vocabulary; `arch` says what call numbers mean.
    pub fn new(layout: ProfileLayout, vocabulary: Vocabulary, arch: &str) -> Self {
        ProfileBuilder {
            tokens: TokenCounts::new(&layout),
            windows: WindowCounts::new(&layout),
            whole: None,
            reduced: false,
            layout,
            vocabulary,
            table: names::table(arch),
        }
    }

    /// From now on calls are only counted: [`ProfileBuilder::count`] says what they are, and
    /// windows are a sample. Or every window comes again.
    pub fn reduce(&mut self, reduced: bool) {
        if reduced == self.reduced {
            return;
        }
        self.reduced = reduced;
        self.tokens = TokenCounts::new(&self.layout);
        let whole = self.whole.take().filter(|_| reduced);
        self.windows = whole.unwrap_or_else(|| WindowCounts::new(&self.layout));
    }

    /// Calls that were counted, and those that were shipped and not counted, while calls are only
    /// counted. Gives how many of them are in the profile.
    pub fn count(&mut self, token: Token, calls: u64) -> u64 {
        if !self.reduced || token == Token::GAP || self.table.is_wait(token.call) {
            return 0;
        }
        self.add(token, calls);
        calls
    }

    /// Takes one window, as often as its weight says; `pattern` is its index among the frozen
    /// patterns.
    pub fn window(&mut self, window: &Window, pattern: Option<usize>) {
        let before = self.windows.calls;
        let weight = f64::from(window.weight);
        for call in &window.calls {
            self.call(call, weight);
        }
        self.windows.windows += 1;
        let none = self.layout.patterns();
        let slot = pattern.filter(|index| *index < none).unwrap_or(none);
        self.windows.patterns[slot] += self.windows.calls - before;
    }

    fn add(&mut self, token: Token, calls: u64) {
        self.tokens.calls += calls;
        self.tokens.errors += u64::from(token.outcome.is_error()) * calls;
        let slot = self.layout.token_slot(self.vocabulary.id(&token));
        self.tokens.tokens[slot] += calls;
    }

    fn call(&mut self, call: &WindowCall, weight: f64) {
        if call.token == Token::GAP || self.table.is_wait(call.token.call) {
            return;
        }
        if !self.reduced {
            self.add(call.token, 1);
        }
        self.windows.calls += weight;
        if call.token.outcome != Outcome::Ok {
            return;
        }
        let kind = self.table.kind(call.token.call);
        let moves = matches!(kind, CallKind::Read | CallKind::Write);
        if moves && call.role == Role::None {
            // A file or a socket all the same, which was not looked at yet, or closed before.
            return;
        }
        if let Some(slot) = duration_slot(kind, call.role) {
            let waits = call.duration_ns as f64 / SHORT_WAIT_NS;
            self.windows.durations[slot].record(waits, weight);
        }
        if let Some(slot) = size_slot(kind, call.role) {
            self.windows.sizes[slot].record(call.ret.unsigned_abs() as f64, weight);
        }
    }

    /// The profile of the interval since the last call of this function, which starts the next.
    pub fn finish(&mut self) -> Profile {
        let tokens = std::mem::replace(&mut self.tokens, TokenCounts::new(&self.layout));
        let windows = self.windows.clone();
        if self.reduced {
            self.windows.fade(KEPT);
        } else {
            self.windows = WindowCounts::new(&self.layout);
            self.whole = Some(windows.clone());
        }
        // The square root makes the sampling noise of a share independent of the share.
        let share = |part: f64, all: f64| (part / all.max(1.0)).sqrt() as f32;
        let of_calls = |n: &u64| share(*n as f64, tokens.calls as f64);
        let of_windows = |n: &f64| share(*n, windows.calls);
        let mut values: Vec<f32> = Vec::with_capacity(self.layout.dimension());
        values.extend(tokens.tokens.iter().map(of_calls));
        values.extend(windows.patterns.iter().map(of_windows));
        values.push(of_calls(&tokens.errors));
        let means = windows.durations.iter().chain(&windows.sizes);
        values.extend(
            means
                .zip(self.layout.typical())
                .map(|(mean, t)| mean.drawn_towards(*t)),
        );
        Profile {
            calls: tokens.calls,
            windows: windows.windows,
            values,
        }
    }

    pub fn layout(&self) -> &ProfileLayout {
        &self.layout
    }
}

#[cfg(test)]
mod tests;
