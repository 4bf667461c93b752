//! What the models say about the order of calls.

use stethos_patterns::Token;
use stethos_patterns::score::window_score;

use super::Engine;
use crate::accepted::Accepted;
use crate::diagnosis::evidence::Good;
use crate::diagnosis::observation::{JudgedWindow, Stray};
use crate::diagnosis::reference::Reference;
use crate::diagnosis::signal::Kind;
use crate::record::{ContainerIndex, Nanos};

/// Load is usual within so many times the learned one.
const USUAL: f64 = 3.0;
/// Below this, in multiples of the learned load, nobody asks for anything: what timers do then, learning
/// may not have seen.
const IDLE: f64 = 0.01;
/// Single values of a profile are as learned only around the load of learning.
const SAME: f64 = 2.0;

impl Engine {
    pub(super) fn judge_surprise(&mut self, judged: &JudgedWindow, excess: Option<bool>) {
        let window = &judged.window;
        let (Some(excess), Some(model)) = (excess, self.models.get(&window.container)) else {
            return;
        };
        if self.reduced {
            return;
        }
        if !excess {
            self.board
                .relieve(window.container, Good::Familiar, window.end_ns());
        }
        if self.relative_load(window.container) < IDLE {
            return;
        }
        let usual = self.is_load_within(USUAL, window.container);
        let signal =
            self.surprise
                .judge(window, excess, model.false_alarm_rate(), usual, self.limit);
        signal.into_iter().for_each(|signal| self.take(signal));
    }

    /// The autoencoder's view of a container's last interval: 1 = as learned. `strays`: by what it
    /// differs, the furthest first.
    pub fn on_stability(
        &mut self,
        container: ContainerIndex,
        at_ns: Nanos,
        stability: f64,
        strays: &[Stray],
    ) {
        self.advance(at_ns);
        if self.reduced {
            // A profile from a sample: attention has it looked at.
            self.stability.reset(container);
            return;
        }
        // What was accepted changes what else is done.
        let accepted = self.accepted.get(&container);
        let as_learned = accepted.is_none_or(Accepted::is_empty);
        let strays = match as_learned && self.is_load_within(SAME, container) {
            true => strays,
            false => &[],
        };
        let mut signals = self.stability.observe(container, at_ns, stability, strays);
        // The profile of some requests is another than that of many.
        let usual = self.is_load_within(USUAL, container);
        signals.retain(|signal| usual || signal.kind != Kind::Unstable);
        if !self.config.models || !self.models.contains_key(&container) {
            return;
        }
        if signals.is_empty() {
            self.board.relieve(container, Good::Stable, at_ns);
        }
        signals.into_iter().for_each(|signal| self.take(signal));
        self.step();
    }

    fn is_load_within(&self, times: f64, container: ContainerIndex) -> bool {
        (1.0 / times..=times).contains(&self.relative_load(container))
    }

    /// Calls per second of a container in multiples of the learned rate; 1 where either is not known.
    pub(super) fn relative_load(&self, container: ContainerIndex) -> f64 {
        let learned = self.models.get(&container).map_or(0.0, Reference::load);
        match self.load.get(&container) {
            Some(now) if learned > 0.0 => now / learned,
            _ => 1.0,
        }
    }

    /// Whether the window is stranger than its pattern allows; none for windows that do not
    /// say anything about that.
    pub(super) fn excess(&self, judged: &JudgedWindow) -> Option<bool> {
        let window = &judged.window;
        let model = self.models.get(&window.container)?;
        let verdict = judged.verdict.as_ref().filter(|_| self.config.models)?;
        let whole = window.calls.iter().all(|call| call.token != Token::GAP);
        let known = self
            .pod
            .process(window.pid)
            .is_none_or(|p| p.executable.is_empty() || model.knows_executable(&p.executable));
        if !whole || !window.whole || !known || self.pod.is_starting(window.pid, window.end_ns()) {
            return None;
        }
        Some(window_score(&verdict.surprise) > model.window_limit(judged.pattern))
    }
}
