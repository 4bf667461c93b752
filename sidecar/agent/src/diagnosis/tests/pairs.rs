//! The stand-in for a model: pairs of calls that learning saw are expected, others are not.

use stethos_patterns::Window;

use super::shop::Shop;
use crate::diagnosis::verdict::Verdict;

impl Shop {
    pub(super) fn learn_pairs(&mut self, window: &Window) {
        let mut last = None;
        for call in &window.calls {
            self.pairs
                .entry((window.container, last))
                .or_default()
                .insert(call.token);
            self.tokens[usize::from(window.container)].insert(call.token);
            last = Some(call.token);
        }
    }

    pub(super) fn verdict(&self, window: &Window) -> Option<Verdict> {
        let vocabulary = self.vocabularies.get(usize::from(window.container))?;
        let mut last = None;
        let mut verdict = Verdict {
            surprise: Vec::new(),
            expected: Vec::new(),
        };
        for call in &window.calls {
            let known = self.pairs.get(&(window.container, last));
            let familiar = known.is_some_and(|known| known.contains(&call.token));
            verdict.surprise.push(if familiar { 0.1 } else { 8.0 });
            let expected = known
                .and_then(|known| known.first())
                .map_or(0, |t| vocabulary.id(t));
            verdict.expected.push(expected);
            last = Some(call.token);
        }
        Some(verdict)
    }
}
