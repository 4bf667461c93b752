//! The learned normal of one container, as the detectors ask for it.

use std::collections::BTreeMap;

use stethos_patterns::baseline::Resources;
use stethos_patterns::histogram::DurationHistogram;
use stethos_patterns::names::{self, CallTable};
use stethos_patterns::{Outcome, Role, Token, Vocabulary};

use crate::accepted::{Accepted, Thing, Took};
use crate::diagnosis::observation::{ContainerModel, DiagnosisConfig};
use crate::diagnosis::signal::is_resolver;

/// Fewer durations than this have no tail.
const MIN_DURATIONS: u64 = 20;
/// Fewer answers than this have no rate.
const ENOUGH_ANSWERS: u64 = 100;
/// Connections for each exchange, at most, that say that connections are kept.
const KEPT: f64 = 0.1;
/// Fewer segments than this have no share that were sent again.
const ENOUGH_SEGMENTS: u64 = 1000;
/// Less time than this does not say what is usual.
const ENOUGH_OBSERVED: u64 = 10_000_000_000;
const MS: u64 = 1_000_000;
/// Of a name server of which too little was learned. The shortest time-out that resolvers can be
/// set to is a second; three times the ceiling stays below it.
const RESOLVER: Limit = Limit {
    median_ns: 0,
    ceiling_ns: 250 * MS,
    highest_ns: 250 * MS,
    p0: 0.02,
};

/// A learned distribution of durations and the point above which a duration is slow.
///
/// The ceiling is the highest of three times the median, one and a half times the 95th
/// percentile, and the median plus a floor: everything taking half as long again stays below
/// it, everything taking five times as long lies above.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Limit {
    pub(crate) median_ns: u64,
    pub(crate) ceiling_ns: u64,
    /// The longest in learning.
    pub(crate) highest_ns: u64,
    /// Share of normal durations above the ceiling, with a margin of two.
    pub(crate) p0: f64,
}

impl Limit {
    fn new(durations: &DurationHistogram, floor_ns: u64) -> Option<Self> {
        let count = durations.count();
        if count < MIN_DURATIONS {
            return None;
        }
        let median_ns = durations.quantile(0.5);
        let tail = durations.quantile(0.95);
        let ceiling_ns = median_ns
            .saturating_mul(3)
            .max(tail.saturating_add(tail / 2))
            .max(median_ns.saturating_add(floor_ns));
        let share = durations.share_above(ceiling_ns).max(1.0 / count as f64);
        Some(Limit {
            median_ns,
            ceiling_ns,
            highest_ns: durations.max(),
            p0: (2.0 * share).clamp(0.002, 0.2),
        })
    }

    /// The same where it is accepted that it takes so long: the ceiling is then as far above that as
    /// it would be above what was learned.
    pub(crate) fn raised(self, took: Option<Took>, floor_ns: u64) -> Self {
        let Some(Took { median_ns, tail_ns }) = took else {
            return self;
        };
        Limit {
            ceiling_ns: self
                .ceiling_ns
                .max(median_ns.saturating_mul(3))
                .max(tail_ns.saturating_add(tail_ns / 2))
                .max(median_ns.saturating_add(floor_ns)),
            highest_ns: self.highest_ns.max(tail_ns),
            ..self
        }
    }
}

#[derive(Debug)]
pub(crate) struct Reference {
    pub(crate) table: &'static CallTable,
    pub(crate) vocabulary: Vocabulary,
    model: ContainerModel,
    calls: BTreeMap<(Token, Role), Limit>,
    peers: BTreeMap<String, Limit>,
    /// Over all peers: for connections whose peer is not known.
    any_peer: Option<Limit>,
    service: Option<Limit>,
    accepted: Accepted,
    file_floor_ns: u64,
}

impl Reference {
    #[cfg(test)]
    pub(crate) fn new(model: ContainerModel, config: &DiagnosisConfig) -> Self {
        Self::with(model, Accepted::default(), config)
    }

    /// The same model with something else accepted beside it.
    pub(crate) fn accepting(self, accepted: Accepted, config: &DiagnosisConfig) -> Self {
        Self::with(self.model, accepted, config)
    }

    /// `accepted`: what is normal beside what was learned.
    pub(crate) fn with(
        model: ContainerModel,
        accepted: Accepted,
        config: &DiagnosisConfig,
    ) -> Self {
        let slow = |limit: Limit, peer: &str, floor_ns| {
            let peer = peer.to_owned();
            limit.raised(accepted.took(&Thing::SlowExchange { peer }), floor_ns)
        };
        let network = config.slowdown_ms.saturating_mul(MS);
        let file = config.file_slowdown_ms.saturating_mul(MS);
        let baseline = &model.baseline;
        let calls = baseline
            .statistics()
            .iter()
            .filter_map(|s| Some(((s.token, s.role), Limit::new(&s.durations, file)?)))
            .collect();
        let mut all = DurationHistogram::new();
        let mut peers = BTreeMap::new();
        for (address, statistics) in baseline.peers() {
            all.merge(&statistics.exchanges);
            if let Some(limit) = Limit::new(&statistics.exchanges, network) {
                peers.insert(address.to_owned(), slow(limit, address, network));
            }
        }
        Reference {
            table: names::table(&model.arch),
            vocabulary: model.vocabulary.clone(),
            calls,
            peers,
            any_peer: Limit::new(&all, network).map(|limit| slow(limit, "", network)),
            service: Limit::new(&baseline.service, network)
                .map(|limit| limit.raised(accepted.took(&Thing::SlowService), network))
                .map(|limit| limit.raised(accepted.took(&Thing::HeldUp), network)),
            file_floor_ns: file,
            accepted,
            model,
        }
    }

    /// How often this token came, on any descriptor.
    pub(crate) fn outcomes(&self, token: Token) -> u64 {
        self.model.baseline.count_of(&token)
    }

    /// How often this call came with any outcome.
    pub(crate) fn attempts(&self, call: u16) -> u64 {
        self.model.baseline.calls_of(call)
    }

    /// Whether a path was opened in learning; none when that is not known.
    pub(crate) fn has_opened(&self, path: &str) -> Option<bool> {
        self.model.baseline.has_opened(path)
    }

    /// How often this error came with this path or peer.
    pub(crate) fn failures(&self, token: Token, subject: &str) -> u64 {
        self.model.baseline.failure_count(&token, Some(subject))
    }

    /// Distinct paths or peers that this error came with.
    pub(crate) fn failed_subjects(&self, token: Token) -> usize {
        let failures = self.model.baseline.failures();
        failures
            .iter()
            .filter(|f| f.token == token && f.subject.is_some())
            .count()
    }

    pub(crate) fn call_limit(&self, token: Token, role: Role) -> Option<Limit> {
        self.calls.get(&(token, role)).copied()
    }

    /// The same for one file.
    pub(crate) fn file_limit(&self, token: Token, role: Role, path: Option<&str>) -> Option<Limit> {
        let path = path.map(str::to_owned);
        let took = self.accepted.took(&Thing::SlowCall { token, path });
        let limit = self.call_limit(token, role)?;
        Some(limit.raised(took, self.file_floor_ns))
    }

    /// Whether anything is accepted beside what was learned.
    pub(crate) fn accepts_something(&self) -> bool {
        !self.accepted.is_empty()
    }

    /// Whether it is accepted that this call fails so.
    pub(crate) fn accepts_error(&self, token: Token, subject: Option<&str>) -> bool {
        let subject = subject.map(str::to_owned);
        self.accepted.has(&Thing::Error { token, subject })
    }

    /// Whether it is accepted that this command is started, by the name that it is told of.
    pub(crate) fn accepts_command(&self, name: &str) -> bool {
        let executable = name.to_owned();
        self.accepted.has(&Thing::UnexpectedExec { executable })
    }

    /// None for a peer that does not normally answer.
    pub(crate) fn exchange_limit(&self, peer: &str) -> Option<Limit> {
        match peer.is_empty() {
            true => self.any_peer,
            false => self.peers.get(peer).copied(),
        }
    }

    /// The same for an answer that does not come: a name server owes one, also where learning saw few.
    pub(crate) fn patience(&self, peer: &str) -> Option<Limit> {
        let unlearned = is_resolver(peer).then_some(RESOLVER);
        self.exchange_limit(peer).or(unlearned)
    }

    /// Peers that normally answer, and how long they take.
    pub(crate) fn answering(&self) -> impl Iterator<Item = (&str, Limit)> + '_ {
        self.peers
            .iter()
            .map(|(peer, limit)| (peer.as_str(), *limit))
    }

    /// Normal exchanges with a peer.
    pub(crate) fn exchanges(&self, peer: &str) -> u64 {
        self.model
            .baseline
            .peer(peer)
            .map_or(0, |p| p.exchanges.count())
    }

    /// Connections made for each exchange with a peer; none where there were few exchanges, or few to a
    /// connection.
    pub(crate) fn connections_made(&self, peer: &str) -> Option<f64> {
        let statistics = self.model.baseline.peer(peer)?;
        let exchanges = statistics.exchanges.count();
        let made = (statistics.connects as f64 + 1.0) / (exchanges as f64 + 2.0);
        (exchanges >= ENOUGH_ANSWERS && made <= KEPT).then_some(made)
    }

    /// Highest number of a descriptor in use; none when that was not learned.
    pub(crate) fn highest_descriptor(&self) -> Option<u64> {
        let highest = u64::from(self.model.baseline.highest_descriptor);
        (highest > 0).then_some(highest)
    }

    /// What it uses of the machine; none when that was not learned.
    pub(crate) fn resources(&self) -> Option<&Resources> {
        let resources = &self.model.baseline.resources;
        (resources.observed_ns >= ENOUGH_OBSERVED).then_some(resources)
    }

    /// Requests that it answers in a second, and in its busiest one; none where it answered few.
    pub(crate) fn requests_per_second(&self) -> Option<(f64, f64)> {
        let baseline = &self.model.baseline;
        let answers = baseline.service.count();
        let read = baseline.statistics().iter().filter(|statistics| {
            statistics.role == Role::Server
                && statistics.token.outcome == Outcome::Ok
                && self.table.is_read_like(statistics.token.call)
        });
        let (reads, most) = read.fold((0, 0), |(reads, most): (u64, u64), statistics| {
            (reads + statistics.count, most + statistics.max_per_second)
        });
        // A request may come in several reads.
        let share = answers as f64 / reads.max(answers).max(1) as f64;
        (answers >= ENOUGH_ANSWERS).then(|| (self.per_second(answers), most as f64 * share))
    }

    /// Share of TCP segments of its network that were sent again; none where too few were seen.
    pub(crate) fn sent_again(&self) -> Option<f64> {
        let segments = self.model.baseline.segments;
        let enough = segments.sent >= ENOUGH_SEGMENTS;
        enough.then(|| segments.again as f64 / segments.sent as f64)
    }

    /// Whether learning saw this address connected to.
    pub(crate) fn knows_peer(&self, peer: &str) -> bool {
        self.model.baseline.peer(peer).is_some()
    }

    /// So many in learning, per second of normal time.
    pub(crate) fn per_second(&self, count: u64) -> f64 {
        count as f64 * 1e9 / self.model.baseline.normal_ns.max(1) as f64
    }

    /// Exchanges with a peer that end without an answer in so many ns of normal time.
    pub(crate) fn unanswered_in(&self, peer: &str, ns: u64) -> f64 {
        let statistics = self.model.baseline.peer(peer);
        let unanswered = statistics.map_or(0, |p| p.failed.saturating_add(p.abandoned));
        unanswered as f64 * ns as f64 / self.model.baseline.normal_ns.max(1) as f64
    }

    pub(crate) fn service_limit(&self) -> Option<Limit> {
        self.service
    }

    /// Share of the own answers that locks may have held up for so long in learning, with a margin of
    /// two: as if every such wait in `futex`, idle ones too, were one of them.
    pub(crate) fn held_up_share(&self, ns: u64) -> f64 {
        let futex = self.table.number("futex");
        let waits = futex.map_or(0.0, |nr| {
            let durations = self.model.baseline.durations_of(nr, None);
            durations.share_above(ns) * durations.count() as f64
        });
        let answers = self.model.baseline.service.count() as f64;
        (2.0 * (waits + 1.0) / (answers + 2.0)).clamp(0.002, 0.2)
    }

    /// True when learning saw this executable run (or saw none at all). `/bin` and `/usr/bin` are
    /// the same place; a bare name stands for every place.
    pub(crate) fn knows_executable(&self, path: &str) -> bool {
        let mut known = self.model.baseline.executables().peekable();
        known.peek().is_none() || known.any(|known| same_executable(known, path))
    }

    /// The same of a command's name, of which the kernel keeps 15 bytes.
    pub(crate) fn knows_command(&self, name: &str) -> bool {
        const KEPT: usize = 15;
        let mut known = self.model.baseline.executables();
        let is_cut = |path: &str| {
            path.rsplit('/')
                .next()
                .is_some_and(|file| file.starts_with(name))
        };
        self.knows_executable(name) || name.len() == KEPT && known.any(is_cut)
    }

    /// Calls per second of normal time.
    pub(crate) fn load(&self) -> f64 {
        let seconds = self.model.baseline.normal_ns as f64 / 1e9;
        if seconds > 0.0 {
            self.model.baseline.calls as f64 / seconds
        } else {
            0.0
        }
    }

    /// Highest score of a normal window of this pattern, nats.
    pub(crate) fn window_limit(&self, pattern: Option<u32>) -> f64 {
        self.model
            .thresholds
            .window_limit(pattern.map(|p| p as usize))
    }

    pub(crate) fn false_alarm_rate(&self) -> f64 {
        self.model.thresholds.false_alarm_rate
    }
}

fn same_executable(a: &str, b: &str) -> bool {
    let place = |path: &str| path.strip_prefix("/usr").unwrap_or(path).to_owned();
    let name = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    place(a) == place(b) || (!(a.contains('/') && b.contains('/')) && name(a) == name(b))
}
