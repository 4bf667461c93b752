//! The engine: observations in, reports out. Everything depends on the times in the records.

mod exchanges;
mod network;
pub mod operator;
mod resources;
mod sequences;

use std::collections::{BTreeMap, BTreeSet};

use stethos_patterns::Token;
use stethos_patterns::names::{self, CallTable};

use crate::accepted::Accepted;
use crate::diagnosis::board::Board;
use crate::diagnosis::evidence::Good;
use crate::diagnosis::observation::{ContainerModel, DiagnosisConfig, JudgedWindow};
use crate::diagnosis::pod::Pod;
use crate::diagnosis::reference::Reference;
use crate::diagnosis::report::Report;
use crate::diagnosis::signal::{Kind, Signal, Standing};
use crate::diagnosis::signals::connections::Connections;
use crate::diagnosis::signals::durations::Durations;
use crate::diagnosis::signals::errors::Errors;
use crate::diagnosis::signals::exchanges::Exchanges;
use crate::diagnosis::signals::failing::Failing;
use crate::diagnosis::signals::flood::Flood;
use crate::diagnosis::signals::frozen::Frozen;
use crate::diagnosis::signals::lifecycle::Ends;
use crate::diagnosis::signals::network::Network;
use crate::diagnosis::signals::pieces::Pieces;
use crate::diagnosis::signals::processes::Processes;
use crate::diagnosis::signals::resources::Resources;
use crate::diagnosis::signals::stability::Stability;
use crate::diagnosis::signals::surprise::Surprise;
use crate::diagnosis::signals::unkept::Unkept;
use crate::diagnosis::signals::{Scene, test_limit};
use crate::diagnosis::strange;
use crate::record::{
    CallCounts, ContainerIndex, CountedKind, Header, Lifecycle, Nanos, Record, Tick,
};
use crate::sequential::SECOND;

/// Incidents are looked at this often.
const STEP: Nanos = SECOND / 10;
/// A clock that jumps by more than this stood still with everything it measures.
const STALL: Nanos = 3 * SECOND;

/// Turns what a pod's containers do into diagnoses.
///
/// Same input, same output: nothing but the records' own time is read. Records may come in any
/// order; out of order they are worth less, but never an error.
#[derive(Debug)]
pub struct Engine {
    config: DiagnosisConfig,
    table: &'static CallTable,
    /// Evidence at which a sequential test is significant, nats.
    limit: f64,
    now: Nanos,
    stepped: Nanos,
    /// Durations that reach back before this are not judged.
    stalled_until: Nanos,
    /// Calls are only counted now: what compares shares rests.
    reduced: bool,
    /// When something was last out of the ordinary.
    disturbed_ns: Nanos,
    tick: Option<Tick>,
    /// Calls per second of each container, over the last seconds.
    load: BTreeMap<ContainerIndex, f64>,
    pod: Pod,
    models: BTreeMap<ContainerIndex, Reference>,
    accepted: BTreeMap<ContainerIndex, Accepted>,
    errors: Errors,
    durations: Durations,
    exchanges: Exchanges,
    connections: Connections,
    surprise: Surprise,
    stability: Stability,
    frozen: Frozen,
    ends: Ends,
    processes: Processes,
    flood: Flood,
    network: Network,
    pieces: Pieces,
    unkept: Unkept,
    failing: Failing,
    resources: Resources,
    board: Board,
}

impl Engine {
    pub fn new(config: DiagnosisConfig, header: &Header) -> Self {
        Engine {
            table: names::table(&header.arch),
            limit: test_limit(config.false_alarms_per_day),
            config,
            now: 0,
            stepped: 0,
            stalled_until: 0,
            reduced: false,
            disturbed_ns: 0,
            tick: None,
            load: BTreeMap::new(),
            pod: Pod::default(),
            models: BTreeMap::new(),
            accepted: BTreeMap::new(),
            errors: Errors::default(),
            durations: Durations::default(),
            exchanges: Exchanges::default(),
            connections: Connections::default(),
            surprise: Surprise::default(),
            stability: Stability::default(),
            frozen: Frozen::default(),
            ends: Ends::default(),
            processes: Processes::default(),
            flood: Flood::default(),
            network: Network::default(),
            pieces: Pieces::default(),
            unkept: Unkept::default(),
            failing: Failing::default(),
            resources: Resources::default(),
            board: Board::new(header.unix_offset_ns.unsigned_abs()),
        }
    }

    /// From now on this container has a learned normal. Without one it yields only what needs
    /// none: a full, failing or read-only disk, no descriptors left, killed for memory.
    pub fn watch(&mut self, container: ContainerIndex, model: ContainerModel) {
        let reference = self.reference(container, model);
        self.models.insert(container, reference);
    }

    /// The learned normal of a container.
    pub(crate) fn model(&self, container: ContainerIndex) -> Option<&Reference> {
        self.models.get(&container)
    }

    /// Takes a record. Windows come judged, through another method.
    pub fn on_record(&mut self, record: &Record) {
        match record {
            Record::Container(info) => self.pod.on_container(info),
            Record::Process(info) => {
                self.pod.on_process(info);
                self.advance(info.at_ns);
                let model = self.models.get(&info.container);
                self.ends.identify(info.pid, &info.executable, model);
            }
            Record::Detail(detail) => self.pod.on_detail(detail),
            Record::Descriptor(info) => self.pod.on_descriptor(info),
            Record::Lifecycle(lifecycle) => self.on_lifecycle(lifecycle),
            Record::Threads(snapshot) => {
                self.advance(snapshot.at_ns);
                for thread in snapshot.threads.iter().filter(|t| t.inside.is_some()) {
                    self.board.runs(thread.pid, snapshot.at_ns);
                }
                self.connecting(snapshot);
                if snapshot.at_ns >= self.stalled_until {
                    let models = &self.models;
                    let unexpected = |pid| self.ends.is_about_to_tell(pid);
                    let mut signals = self.processes.on_threads(
                        snapshot,
                        |c| models.get(&c),
                        unexpected,
                        self.limit,
                    );
                    signals.extend(self.frozen.judge(snapshot));
                    for signal in signals {
                        if self.models.contains_key(&signal.container) {
                            self.take(signal);
                        }
                    }
                }
                self.step();
            }
            Record::Tick(tick) => self.on_tick(tick),
            Record::Reduced(reduced) => {
                self.advance(reduced.at_ns);
                self.reduced = reduced.sample != 0;
                self.processes.rest();
                if self.reduced {
                    self.unkept.rest();
                    self.failing.rest();
                }
            }
            Record::Counts(counts) => self.on_counts(counts),
            Record::Life(life) => self.pod.on_life(life),
            Record::Network(state) => self.on_network(state),
            Record::Resources(resources) => self.resources.look(resources),
            Record::Http(head) => self.on_head(head),
            Record::Window(_) | Record::Exchange(_) | Record::Span(_) => {}
            Record::ThreadSpan(_) | Record::Resource(_) | Record::Http2(_) | Record::Closed(_) => {}
        }
    }

    /// When something was last out of the ordinary: a signal that says something by itself, an open
    /// incident, a test that has found something and is not done.
    pub fn disturbed_ns(&self) -> Nanos {
        self.disturbed_ns
    }

    /// Answers that were only counted are answers.
    fn on_counts(&mut self, counts: &CallCounts) {
        self.advance(counts.at_ns);
        for row in &counts.rows {
            match &row.kind {
                CountedKind::Answers { peer } => {
                    let between = (counts.at_ns.saturating_sub(SECOND), counts.at_ns);
                    self.exchanges
                        .answered_between(counts.container, peer, between);
                }
                CountedKind::Service => self.flood.answered(counts.container, None, row.count),
                CountedKind::Call(_) => {}
            }
        }
    }

    pub fn on_window(&mut self, judged: &JudgedWindow) {
        let window = &judged.window;
        let (start_ns, end_ns) = (window.start_ns(), window.end_ns());
        self.pod.saw(window.container, window.pid, start_ns);
        let excess = self.excess(judged);
        let mut signals = Vec::new();
        let (mut worst, mut explained) = (None, false);
        let scene = Scene {
            container: window.container,
            pid: window.pid,
            tid: window.tid,
            table: self
                .models
                .get(&window.container)
                .map_or(self.table, |m| m.table),
            model: self.models.get(&window.container),
            pod: &self.pod,
            surprising: excess == Some(true),
            limit: self.limit,
            load: self.relative_load(window.container),
            reduced: self.reduced,
        };
        let concerned = self.board.concerns(window.container);
        let mut closed = Vec::new();
        for (index, call) in window.calls.iter().enumerate() {
            if call.token == Token::GAP {
                continue;
            }
            self.connections.observe(&scene, call);
            signals.extend(self.processes.judge(&scene, call));
            let piece = self.pieces.observe(&scene, call);
            if let Some(peer) = &piece.of {
                // Who still answers somebody does not hang.
                self.exchanges
                    .answered(scene.container, peer, call.end_ns());
            }
            signals.extend(piece.signal);
            if scene.table.is_close(call.token.call) {
                closed.push((call.fd, call.enter_ns));
            }
            if self.errors.is_accepted(&scene, call) {
                explained = true;
                continue;
            }
            let error = self.errors.judge(&scene, call);
            let slow = self.durations.judge(&scene, call);
            if error.is_some() {
                worst = worst.or(Some(index));
            } else if slow.is_none() && concerned {
                let peer = scene.peer(call);
                let (table, pid) = (scene.table, scene.pid);
                let good = Good::Call {
                    call,
                    table,
                    peer: peer.as_deref(),
                    pid,
                };
                self.board.relieve(window.container, good, call.end_ns());
            }
            signals.extend(error);
            signals.extend(slow);
        }
        let table = scene.table;
        for (fd, at_ns) in closed {
            self.pod.on_close(window.pid, fd, at_ns);
            self.unkept.closed(window.pid, fd, at_ns);
        }
        self.advance(end_ns);
        signals.into_iter().for_each(|signal| self.take(signal));
        if worst.is_none() {
            self.judge_surprise(judged, excess.map(|excess| excess && !explained));
        }
        if (worst.is_some() || excess == Some(true)) && self.board.concerns(window.container) {
            let model = self.models.get(&window.container);
            let rank = strange::rank(judged, worst);
            self.board.offer_run(window.container, rank, || {
                strange::run(judged, worst, rank, model, table)
            });
        }
        self.step();
    }

    /// What has been found since the last call, in order.
    pub fn drain(&mut self) -> Vec<Report> {
        self.board.drain()
    }

    fn on_lifecycle(&mut self, record: &Lifecycle) {
        self.advance(record.at_ns);
        let ended = self.pod.on_lifecycle(record);
        self.processes.on_lifecycle(record, &self.pod);
        let model = self.models.get(&record.container);
        let signal = self.ends.judge(record, ended.as_ref(), model, &self.pod);
        if ended.is_some() {
            self.connections.forget(record.pid);
            self.network.forget(record.pid);
            self.unkept.forget(record.pid);
            self.board.ended(record.pid, record.at_ns);
        }
        signal.into_iter().for_each(|signal| self.take(signal));
        self.step();
    }

    fn on_tick(&mut self, tick: &Tick) {
        if let Some(last) = &self.tick {
            let passed = tick.at_ns.saturating_sub(last.at_ns);
            if passed > STALL {
                self.stalled_until = tick.at_ns.saturating_add(STALL);
            }
            let seconds = passed as f64 / SECOND as f64;
            for (container, account) in &tick.accounts {
                let before = last.accounts.iter().find(|(c, _)| c == container);
                let calls = account
                    .seen
                    .saturating_sub(before.map_or(0, |(_, a)| a.seen));
                if seconds > 0.1 && before.is_some() {
                    let rate = calls as f64 / seconds;
                    let load = self.load.entry(*container).or_insert(rate);
                    *load += (rate - *load) * 0.3;
                }
            }
        }
        self.advance(tick.at_ns);
        self.pod.on_tick(tick);
        self.tick = Some(tick.clone());
        let models = &self.models;
        let normal = |container, peer: &str| {
            models
                .get(&container)
                .map_or(0, |model: &Reference| model.exchanges(peer))
        };
        let mut signals = self
            .connections
            .settle(self.now, normal, |container, peer| {
                self.exchanges.last_answer(container, peer)
            });
        let no_way = signals.iter().filter_map(|s| self.network.has_no_way(s));
        let no_way: Vec<_> = no_way.collect();
        signals.extend(no_way);
        let may_mine = |pid, now| self.processes.may_mine(pid, now);
        signals.extend(self.ends.settle(self.now, may_mine));
        signals.extend(self.flood.judge(self.now, |c| models.get(&c), self.limit));
        signals.into_iter().for_each(|signal| self.take(signal));
        self.judge_resources();
        self.judge_kept();
        self.step();
    }

    fn take(&mut self, signal: Signal) {
        if self.is_accepted(&signal) {
            return;
        }
        let signal = self.network.qualify(signal);
        let error = matches!(signal.kind, Kind::Error { .. });
        if error || signal.standing >= Standing::Symptom {
            self.disturbed_ns = self.disturbed_ns.max(self.now);
        }
        self.board.take(signal, self.now, &self.pod);
    }

    fn advance(&mut self, at_ns: Nanos) {
        self.now = self.now.max(at_ns);
    }

    fn step(&mut self) {
        if self.now < self.stepped.saturating_add(STEP) {
            return;
        }
        self.stepped = self.now;
        let restless = self.exchanges.restless() || self.durations.restless();
        let restless = restless
            || self.network.restless()
            || self.errors.restless()
            || self.processes.restless()
            || self.unkept.restless()
            || self.failing.restless();
        if restless || self.board.is_busy() {
            self.disturbed_ns = self.now;
        }
        let stability = &self.stability;
        let over = self.board.step(
            self.now,
            &self.pod,
            &self.accepted,
            self.config.affected_per_minute,
            |c| stability.last(c),
        );
        self.reset(over);
    }

    /// Forgets what has been counted in containers whose incidents are over.
    fn reset(&mut self, containers: BTreeSet<ContainerIndex>) {
        for container in containers {
            self.surprise.reset(container);
            self.exchanges.reset(container);
            self.durations.reset(container);
            self.stability.reset(container);
            self.processes.reset(container);
            self.flood.reset(container);
            self.network.reset(container);
            self.pieces.reset(container);
            self.unkept.reset(container);
            self.failing.reset(container);
            self.resources.reset(container);
        }
    }
}
