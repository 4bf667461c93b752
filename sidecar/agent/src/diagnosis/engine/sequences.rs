//! What the models say about the order of calls.

use stethos_patterns::Token;
use stethos_patterns::score::window_score;

use super::Engine;
use crate::diagnosis::evidence::Good;
use crate::diagnosis::observation::JudgedWindow;

impl Engine {
    pub(super) fn judge_surprise(&mut self, judged: &JudgedWindow, excess: Option<bool>) {
        let window = &judged.window;
        let (Some(excess), Some(model)) = (excess, self.models.get(&window.container)) else {
            return;
        };
        if self.reduced {
            return;
        }
        let usual = match (self.load.get(&window.container), model.load()) {
            (Some(now), normal) if normal > 0.0 => (normal / 3.0..=normal * 3.0).contains(now),
            _ => true,
        };
        let signal =
            self.surprise
                .judge(window, excess, model.false_alarm_rate(), usual, self.limit);
        if !excess {
            self.board
                .relieve(window.container, Good::Familiar, window.end_ns());
        }
        signal.into_iter().for_each(|signal| self.take(signal));
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
