//! What is normal for a container, in figures that a person can check: counts, durations,
//! peers, failures that happen in normal time too.

mod builder;
mod resources;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::histogram::DurationHistogram;
use crate::token::{Outcome, Token};
use crate::window::Role;
pub use builder::BaselineBuilder;
pub use resources::{Resources, Used};

/// Most entries of each kind in one baseline; further ones are counted in
/// [`Baseline::left_out`].
#[derive(Clone, Copy, Debug)]
pub struct BaselineBounds;

impl BaselineBounds {
    pub const CALLS: usize = 2048;
    pub const PEERS: usize = 256;
    pub const FAILURES: usize = 1024;
    pub const NAMES: usize = 256;
    pub const OPENED: usize = 4096;
}

/// Figures of normal time. Mergeable: the baseline of two intervals is that of the first merged
/// with that of the second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Normal time observed.
    pub normal_ns: u64,
    /// Calls observed in it, gaps not counted.
    pub calls: u64,
    /// In order of token and role.
    statistics: Vec<CallStatistics>,
    peers: BTreeMap<String, PeerStatistics>,
    /// Service times of server sockets.
    pub service: DurationHistogram,
    /// In order of token and subject.
    failures: Vec<KnownFailure>,
    executables: BTreeSet<String>,
    listens: BTreeSet<String>,
    /// Paths that were opened.
    opened: BTreeSet<String>,
    /// More paths were opened than are kept.
    opened_more: bool,
    /// Highest number of a descriptor that a call worked on; 0 where that is not known.
    #[serde(default)]
    pub highest_descriptor: u32,
    /// Of the container's network.
    #[serde(default)]
    pub segments: Segments,
    #[serde(default)]
    pub resources: Resources,
    /// Observations for which there was no room.
    pub left_out: u64,
}

/// TCP segments; none where they were not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segments {
    pub sent: u64,
    /// Sent or received again, without those that ask for a connection.
    pub again: u64,
}

/// One token on one role of descriptor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallStatistics {
    pub token: Token,
    pub role: Role,
    pub count: u64,
    pub durations: DurationHistogram,
    /// Most of them in one second.
    pub max_per_second: u64,
}

/// One address that the container connects to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PeerStatistics {
    pub connects: u64,
    /// Connects that failed hard.
    pub failed_connects: u64,
    /// From request to answer, answered ones only.
    pub exchanges: DurationHistogram,
    /// Exchanges that ended without an answer because the peer closed or the socket failed.
    pub failed: u64,
    /// Exchanges that ended without an answer because this side closed.
    pub abandoned: u64,
}

/// An error that belongs to normal time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownFailure {
    pub token: Token,
    /// Path or address, where it was captured.
    pub subject: Option<String>,
    pub count: u64,
}

impl Baseline {
    pub fn get(&self, token: &Token, role: Role) -> Option<&CallStatistics> {
        let found = self
            .statistics
            .binary_search_by_key(&(*token, role), CallStatistics::key);
        found.ok().map(|index| &self.statistics[index])
    }

    /// Every token and role seen, in order.
    pub fn statistics(&self) -> &[CallStatistics] {
        &self.statistics
    }

    /// How often a token came, on any role: the `0` of "0 of 12 400 calls".
    pub fn count_of(&self, token: &Token) -> u64 {
        self.of_call(token.call)
            .filter(|s| s.token == *token)
            .map(|s| s.count)
            .sum()
    }

    /// How often a call came with any outcome: the `12 400` of "0 of 12 400 calls".
    pub fn calls_of(&self, call: u16) -> u64 {
        self.of_call(call).map(|statistics| statistics.count).sum()
    }

    /// How often a call came on descriptors of a role, with any outcome.
    pub fn calls_on(&self, call: u16, role: Role) -> u64 {
        self.of_call(call)
            .filter(|s| s.role == role)
            .map(|s| s.count)
            .sum()
    }

    /// Durations of a call that succeeded on descriptors of a role; of all roles for none.
    pub fn durations_of(&self, call: u16, role: Option<Role>) -> DurationHistogram {
        let mut all = DurationHistogram::new();
        self.of_call(call)
            .filter(|s| s.token.outcome == Outcome::Ok && role.is_none_or(|role| s.role == role))
            .for_each(|statistics| all.merge(&statistics.durations));
        all
    }

    /// Of a token on any role, per second of normal time; 0 without normal time.
    pub fn rate_of(&self, token: &Token) -> f64 {
        if self.normal_ns == 0 {
            return 0.0;
        }
        self.count_of(token) as f64 * 1e9 / self.normal_ns as f64
    }

    /// Upper bound of a token's count in one second of normal time, all roles together.
    pub fn max_per_second(&self, token: &Token) -> u64 {
        self.of_call(token.call)
            .filter(|s| s.token == *token)
            .map(|s| s.max_per_second)
            .sum()
    }

    pub fn peer(&self, address: &str) -> Option<&PeerStatistics> {
        self.peers.get(address)
    }

    pub fn peers(&self) -> impl Iterator<Item = (&str, &PeerStatistics)> + '_ {
        self.peers
            .iter()
            .map(|(address, statistics)| (address.as_str(), statistics))
    }

    pub fn failures(&self) -> &[KnownFailure] {
        &self.failures
    }

    /// How often this error came with this subject in normal time; without a subject: how often
    /// at all.
    pub fn failure_count(&self, token: &Token, subject: Option<&str>) -> u64 {
        let key = (*token, subject);
        let found = self
            .failures
            .binary_search_by(|known| known.key().cmp(&key));
        found.map_or(0, |index| self.failures[index].count)
    }

    pub fn knows_executable(&self, path: &str) -> bool {
        self.executables.contains(path)
    }

    pub fn executables(&self) -> impl Iterator<Item = &str> + '_ {
        self.executables.iter().map(String::as_str)
    }

    /// Whether a path was opened in normal time; none when that is not known, because no opens
    /// were captured or too many.
    pub fn has_opened(&self, path: &str) -> Option<bool> {
        let found = self.opened.contains(path);
        let complete = !self.opened.is_empty() && !self.opened_more;
        (found || complete).then_some(found)
    }

    pub fn knows_listen(&self, address: &str) -> bool {
        self.listens.contains(address)
    }

    pub fn listens(&self) -> impl Iterator<Item = &str> + '_ {
        self.listens.iter().map(String::as_str)
    }

    /// Adds the figures of another stretch of normal time.
    pub fn merge(&mut self, other: &Baseline) {
        self.normal_ns = self.normal_ns.saturating_add(other.normal_ns);
        self.calls = self.calls.saturating_add(other.calls);
        self.left_out = self.left_out.saturating_add(other.left_out);
        self.highest_descriptor = self.highest_descriptor.max(other.highest_descriptor);
        self.segments.sent = self.segments.sent.saturating_add(other.segments.sent);
        self.segments.again = self.segments.again.saturating_add(other.segments.again);
        self.resources.merge(&other.resources);
        self.service.merge(&other.service);
        for statistics in &other.statistics {
            self.merge_statistics(statistics);
        }
        for (address, statistics) in &other.peers {
            if let Some(mine) = bounded_entry(&mut self.peers, address, BaselineBounds::PEERS) {
                mine.merge(statistics);
            } else {
                self.left_out += 1;
            }
        }
        for failure in &other.failures {
            self.merge_failure(failure);
        }
        self.opened_more |= other.opened_more;
        for path in &other.opened {
            self.insert_opened(path);
        }
        for (mine, theirs) in [
            (&mut self.executables, &other.executables),
            (&mut self.listens, &other.listens),
        ] {
            for name in theirs {
                if !insert_bounded(mine, name) {
                    self.left_out += 1;
                }
            }
        }
    }

    fn insert_opened(&mut self, path: &str) {
        if self.opened.len() < BaselineBounds::OPENED {
            self.opened.insert(path.to_owned());
        } else if !self.opened.contains(path) {
            self.opened_more = true;
        }
    }

    fn of_call(&self, call: u16) -> impl Iterator<Item = &CallStatistics> + '_ {
        let from = self
            .statistics
            .partition_point(|statistics| statistics.token.call < call);
        self.statistics[from..]
            .iter()
            .take_while(move |s| s.token.call == call)
    }

    fn merge_statistics(&mut self, theirs: &CallStatistics) {
        match self
            .statistics
            .binary_search_by_key(&theirs.key(), CallStatistics::key)
        {
            Ok(index) => {
                let mine = &mut self.statistics[index];
                mine.count = mine.count.saturating_add(theirs.count);
                mine.durations.merge(&theirs.durations);
                mine.max_per_second = mine.max_per_second.max(theirs.max_per_second);
            }
            Err(index) if self.statistics.len() < BaselineBounds::CALLS => {
                self.statistics.insert(index, theirs.clone());
            }
            Err(_) => self.left_out = self.left_out.saturating_add(theirs.count),
        }
    }

    fn merge_failure(&mut self, theirs: &KnownFailure) {
        match self
            .failures
            .binary_search_by(|known| known.key().cmp(&theirs.key()))
        {
            Ok(index) => {
                let mine = &mut self.failures[index];
                mine.count = mine.count.saturating_add(theirs.count);
            }
            Err(index) if self.failures.len() < BaselineBounds::FAILURES => {
                self.failures.insert(index, theirs.clone());
            }
            Err(_) => self.left_out = self.left_out.saturating_add(theirs.count),
        }
    }
}

impl CallStatistics {
    fn key(&self) -> (Token, Role) {
        (self.token, self.role)
    }
}

impl KnownFailure {
    fn key(&self) -> (Token, Option<&str>) {
        (self.token, self.subject.as_deref())
    }
}

impl PeerStatistics {
    fn merge(&mut self, other: &PeerStatistics) {
        self.connects += other.connects;
        self.failed_connects += other.failed_connects;
        self.exchanges.merge(&other.exchanges);
        self.failed += other.failed;
        self.abandoned += other.abandoned;
    }
}

fn bounded_entry<'a, V: Default>(
    map: &'a mut BTreeMap<String, V>,
    key: &str,
    capacity: usize,
) -> Option<&'a mut V> {
    if !map.contains_key(key) {
        if map.len() >= capacity {
            return None;
        }
        map.insert(key.to_owned(), V::default());
    }
    map.get_mut(key)
}

/// False when there was no room.
fn insert_bounded(names: &mut BTreeSet<String>, name: &str) -> bool {
    if names.contains(name) {
        return true;
    }
    names.len() < BaselineBounds::NAMES && names.insert(name.to_owned())
}

#[cfg(test)]
mod tests;
