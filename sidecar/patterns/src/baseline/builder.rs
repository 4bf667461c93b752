//! Collects a baseline from calls and exchanges.

use hashbrown::HashMap;

use super::{
    Baseline, BaselineBounds, CallStatistics, KnownFailure, PeerStatistics, bounded_entry,
    insert_bounded,
    resources::{Collecting, Used},
};
use crate::descriptors::Exchange;
use crate::histogram::DurationHistogram;
use crate::token::{Outcome, Token};
use crate::window::{Role, Window, WindowCall};

const SECOND_NS: u64 = 1_000_000_000;

/// Collects one stretch of normal time. To leave out an interval that turns out not to be
/// normal, build it alone and merge it when it was.
#[derive(Debug, Default)]
pub struct BaselineBuilder {
    /// All but the statistics, which are in `counting`.
    baseline: Baseline,
    counting: HashMap<(Token, Role), Counting>,
    failures: HashMap<(Token, Option<String>), u64>,
    resources: Collecting,
}

#[derive(Debug, Default)]
struct Counting {
    count: u64,
    durations: DurationHistogram,
    max_per_second: u64,
    /// The newest second seen, the calls in it, and those in the second before.
    second: u64,
    in_second: u64,
    in_previous: u64,
}

impl Counting {
    fn record(&mut self, call: &WindowCall) {
        self.count += 1;
        self.durations.record(call.duration_ns);
        let second = call.enter_ns / SECOND_NS;
        if second > self.second {
            self.in_previous = if second == self.second + 1 {
                self.in_second
            } else {
                0
            };
            self.second = second;
            self.in_second = 0;
        }
        let slot = match self.second - second {
            0 => &mut self.in_second,
            1 => &mut self.in_previous,
            _ => return,
        };
        *slot += 1;
        self.max_per_second = self.max_per_second.max(*slot);
    }
}

impl BaselineBuilder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds to the normal time observed.
    pub fn observed_time(&mut self, ns: u64) {
        self.baseline.normal_ns = self.baseline.normal_ns.saturating_add(ns);
    }

    /// TCP segments of the container's network that were sent, and those that were sent or came again.
    pub fn segments(&mut self, sent: u64, again: u64) {
        let segments = &mut self.baseline.segments;
        segments.sent = segments.sent.saturating_add(sent);
        segments.again = segments.again.saturating_add(again);
    }

    pub fn used(&mut self, used: &Used) {
        self.resources.used(used);
    }

    pub fn window(&mut self, window: &Window) {
        for call in &window.calls {
            self.call(call);
        }
    }

    /// Gaps are not counted. An error is also counted as a failure without subject.
    pub fn call(&mut self, call: &WindowCall) {
        if call.token == Token::GAP {
            return;
        }
        self.baseline.calls += 1;
        let key = (call.token, call.role);
        if self.counting.len() >= BaselineBounds::CALLS && !self.counting.contains_key(&key) {
            self.baseline.left_out += 1;
        } else {
            self.counting.entry(key).or_default().record(call);
        }
        if call.token.outcome == Outcome::Ok
            && let Ok(fd) = u32::try_from(call.fd)
        {
            self.baseline.highest_descriptor = self.baseline.highest_descriptor.max(fd);
        }
        if call.token.outcome.is_error() {
            self.add_failure(call.token, None);
        }
    }

    /// An error whose subject (path, address) was captured; comes on top of the call itself.
    pub fn failure(&mut self, token: Token, subject: &str) {
        self.add_failure(token, Some(subject.to_owned()));
    }

    /// A connect to a known address and its return value.
    pub fn connect(&mut self, peer: &str, ret: i64) {
        let failed = Outcome::from_return(ret).is_error();
        if let Some(statistics) = self.peer(peer) {
            statistics.connects += 1;
            statistics.failed_connects += u64::from(failed);
        }
    }

    /// Exchanges of clients whose peer is not known are left out.
    pub fn exchange(&mut self, exchange: &Exchange) {
        if exchange.role == Role::Server {
            if exchange.failed.is_none() {
                self.baseline.service.record(exchange.duration_ns());
            }
            return;
        }
        let Some(peer) = exchange.peer.as_deref() else {
            return;
        };
        let Some(statistics) = self.peer(peer) else {
            return;
        };
        match exchange.failed {
            None => statistics.exchanges.record(exchange.duration_ns()),
            Some(Outcome::NoReturn) => statistics.abandoned += 1,
            Some(_) => statistics.failed += 1,
        }
    }

    pub fn executable(&mut self, path: &str) {
        if !insert_bounded(&mut self.baseline.executables, path) {
            self.baseline.left_out += 1;
        }
    }

    /// A path that was opened.
    pub fn opened(&mut self, path: &str) {
        self.baseline.insert_opened(path);
    }

    pub fn listen(&mut self, address: &str) {
        if !insert_bounded(&mut self.baseline.listens, address) {
            self.baseline.left_out += 1;
        }
    }

    pub fn finish(self) -> Baseline {
        let mut baseline = self.baseline;
        baseline.resources = self.resources.finish();
        baseline.statistics = self
            .counting
            .into_iter()
            .map(|((token, role), counting)| CallStatistics {
                token,
                role,
                count: counting.count,
                durations: counting.durations,
                max_per_second: counting.max_per_second,
            })
            .collect();
        baseline.statistics.sort_by_key(CallStatistics::key);
        baseline.failures = self
            .failures
            .into_iter()
            .map(|((token, subject), count)| KnownFailure {
                token,
                subject,
                count,
            })
            .collect();
        baseline.failures.sort_by(|a, b| a.key().cmp(&b.key()));
        baseline
    }

    fn peer(&mut self, address: &str) -> Option<&mut PeerStatistics> {
        let entry = bounded_entry(&mut self.baseline.peers, address, BaselineBounds::PEERS);
        if entry.is_none() {
            self.baseline.left_out += 1;
        }
        entry
    }

    fn add_failure(&mut self, token: Token, subject: Option<String>) {
        let key = (token, subject);
        if self.failures.len() >= BaselineBounds::FAILURES && !self.failures.contains_key(&key) {
            self.baseline.left_out += 1;
            return;
        }
        *self.failures.entry(key).or_default() += 1;
    }
}
