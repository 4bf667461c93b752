//! What came of one batch of records, and what is counted in it.

use std::collections::BTreeMap;

use stethos_patterns::{Token, score::window_score};

use crate::{
    diagnosis::{attention::Order, observation::JudgedWindow},
    export::Published,
    learning::Change,
    models::Stability,
    record::{ContainerIndex, CountedKind, Record, Tick},
};

/// What came of one batch of records.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Diagnoses and affected calls, in order.
    pub published: Vec<Published>,
    /// What changed in learning, in order.
    pub changes: Vec<Change>,
    pub stability: Vec<Stability>,
    /// Failed calls, shipped or counted, by errno.
    pub errors: BTreeMap<(ContainerIndex, u8), u64>,
    /// Sum of the scores of the judged windows, and their number.
    pub scores: BTreeMap<ContainerIndex, (f64, u64)>,
    /// The last account of every container, and the time it was taken, once a second.
    pub tick: Option<Tick>,
    /// What the capture is asked to do, in order.
    pub orders: Vec<Order>,
    /// Sockets that the capture is to look at from now on, process and descriptor, where others were before.
    pub sockets: Option<Vec<(u32, i32)>>,
}

impl Outcome {
    /// Each call once: those that the kernel counted come with the counts.
    pub(super) fn count_errors(&mut self, record: &Record) {
        let mut add = |container, token: Token, calls| {
            if let stethos_patterns::Outcome::Errno(errno) = token.outcome
                && token.outcome.is_error()
            {
                *self.errors.entry((container, errno)).or_default() += calls;
            }
        };
        match record {
            Record::Window(window) => {
                for call in window.calls.iter().filter(|call| !call.counted) {
                    if !call.no_return {
                        add(window.container, Token::new(call.nr, call.ret), 1);
                    }
                }
            }
            Record::Counts(counts) => {
                for row in &counts.rows {
                    if let CountedKind::Call(token) = row.kind {
                        add(counts.container, token, row.count);
                    }
                }
            }
            _ => {}
        }
    }

    pub(super) fn count(&mut self, judged: &JudgedWindow) {
        let container = judged.window.container;
        if let Some(verdict) = &judged.verdict {
            let (sum, windows) = self.scores.entry(container).or_default();
            *sum += window_score(&verdict.surprise);
            *windows += 1;
        }
    }
}
