//! One piece of evidence: the signals of one kind in one container.

use std::collections::{BTreeMap, BTreeSet};

use stethos_patterns::names::{CallKind, CallTable};
use stethos_patterns::{Outcome, Role, WindowCall};

use crate::accepted::Took;
use crate::diagnosis::signal::{Cause, Kind, Normal, Signal, Standing};
use crate::record::{ContainerIndex, Nanos};

const MAX_SUBJECTS: usize = 8;
const MAX_DURATIONS: usize = 64;
const MAX_CALLS: usize = 512;

#[derive(Clone, Debug)]
pub(crate) struct Evidence {
    pub(crate) container: ContainerIndex,
    pub(crate) kind: Kind,
    /// The highest so far.
    pub(crate) standing: Standing,
    /// The highest so far, nats.
    pub(crate) weight: f64,
    /// Distinct calls (or events).
    pub(crate) count: u64,
    pub(crate) first_ns: Nanos,
    pub(crate) last_ns: Nanos,
    /// Since when it opens incidents.
    pub(crate) opens_ns: Option<Nanos>,
    /// When normal work of the same kind was last seen.
    pub(crate) good_ns: Nanos,
    pub(crate) pid: u32,
    pub(crate) tid: u32,
    pub(crate) fd: i32,
    pub(crate) executable: String,
    /// What people call the process.
    pub(crate) title: String,
    pub(crate) token: String,
    pub(crate) subjects: BTreeMap<String, u64>,
    /// Those among them with which it was significant; none for one that was not known.
    pub(crate) grave: BTreeSet<Option<String>>,
    pub(crate) normal: Normal,
    durations: Vec<u64>,
    calls: BTreeSet<(u32, i32, Nanos)>,
}

/// Work that went well.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Good<'a> {
    Call {
        call: &'a WindowCall,
        table: &'static CallTable,
        peer: Option<&'a str>,
        pid: u32,
    },
    Answer {
        peer: &'a str,
    },
    /// An own answer that took no longer than it may.
    Served,
    /// A process of this executable has come up and stays.
    Settled {
        executable: &'a str,
    },
    /// This process does not stand still.
    Runs {
        pid: u32,
    },
    Familiar,
    Stable,
    /// What this kind is about is as learned.
    Eased {
        kind: &'a Kind,
    },
}

impl Evidence {
    pub(crate) fn new(signal: &Signal) -> Self {
        let mut evidence = Evidence {
            container: signal.container,
            kind: signal.kind.clone(),
            standing: signal.standing,
            weight: signal.weight,
            count: 0,
            first_ns: signal.start_ns,
            last_ns: signal.end_ns,
            opens_ns: None,
            good_ns: 0,
            pid: signal.pid,
            tid: signal.tid,
            fd: signal.fd,
            executable: String::new(),
            title: String::new(),
            token: signal.token.clone(),
            subjects: BTreeMap::new(),
            grave: BTreeSet::new(),
            normal: signal.normal,
            durations: Vec::new(),
            calls: BTreeSet::new(),
        };
        evidence.add(signal);
        evidence
    }

    /// True when the signal is about a call that was not counted yet.
    pub(crate) fn add(&mut self, signal: &Signal) -> bool {
        self.standing = self.standing.max(signal.standing);
        self.weight = self.weight.max(signal.weight);
        self.first_ns = self.first_ns.min(signal.start_ns);
        self.last_ns = self.last_ns.max(signal.end_ns);
        if signal.standing >= Standing::Opens {
            self.opens_ns.get_or_insert(signal.end_ns);
        }
        if matches!(
            self.normal,
            Normal::None
                | Normal::Share { .. }
                | Normal::Climb { .. }
                | Normal::Rate { .. }
                | Normal::Throttled { .. }
                | Normal::Ready { .. }
                | Normal::Memory { .. }
                | Normal::Ends { .. }
        ) {
            self.normal = signal.normal;
        }
        if signal.standing >= Standing::Symptom && self.grave.len() < MAX_SUBJECTS {
            self.grave.insert(signal.subject.clone());
        }
        let duration = signal.end_ns.saturating_sub(signal.start_ns);
        let key = (signal.tid, signal.fd, signal.start_ns);
        let new = self.calls.insert(key);
        if self.calls.len() > MAX_CALLS {
            self.calls.pop_first();
        }
        if !new {
            if let Some(last) = self.durations.last_mut() {
                *last = (*last).max(duration);
            }
            return false;
        }
        self.count += 1;
        if self.durations.len() >= MAX_DURATIONS {
            self.durations.remove(0);
        }
        self.durations.push(duration);
        if let Some(subject) = &signal.subject {
            self.add_subject(subject);
        }
        true
    }

    pub(crate) fn add_subject(&mut self, subject: &str) {
        if self.subjects.len() < MAX_SUBJECTS || self.subjects.contains_key(subject) {
            *self.subjects.entry(subject.to_owned()).or_default() += 1;
        }
    }

    /// What its descriptor stands for has become known.
    pub(crate) fn name(&mut self, subject: &str) {
        self.add_subject(subject);
        if self.grave.remove(&None) {
            self.grave.insert(Some(subject.to_owned()));
        }
    }

    /// The path or peer that is met most often.
    pub(crate) fn subject(&self) -> Option<&str> {
        let most = self
            .subjects
            .iter()
            .max_by(|a, b| a.1.cmp(b.1).then(b.0.cmp(a.0)));
        most.map(|(subject, _)| subject.as_str())
    }

    /// Median of the last durations, ns.
    pub(crate) fn median_ns(&self) -> u64 {
        self.took().median_ns
    }

    /// Of the last durations.
    pub(crate) fn took(&self) -> Took {
        let mut sorted = self.durations.clone();
        sorted.sort_unstable();
        let at = |index: usize| sorted.get(index).copied().unwrap_or(0);
        Took {
            median_ns: at(sorted.len() / 2),
            tail_ns: at(sorted.len() * 19 / 20),
        }
    }

    pub(crate) fn is_significant(&self) -> bool {
        self.standing >= Standing::Symptom
    }

    pub(crate) fn is_vague(&self) -> bool {
        self.kind.cause() == Cause::Vague
    }

    /// Mean time between the calls, ns; 0 for a single one, however long it takes.
    pub(crate) fn gap_ns(&self) -> u64 {
        match self.count {
            0 | 1 => 0,
            count => self.last_ns.saturating_sub(self.first_ns) / (count - 1),
        }
    }

    /// True when it is not yet known what the descriptor stands for that this is about.
    pub(crate) fn is_nameless(&self) -> bool {
        let about = matches!(self.kind.cause(), Cause::Disk | Cause::Peer(_));
        about && self.fd >= 0 && self.subjects.is_empty()
    }

    pub(crate) fn errno(&self) -> Option<u8> {
        match &self.kind {
            Kind::Error { token, .. } => match token.outcome {
                Outcome::Errno(errno) => Some(errno),
                _ => None,
            },
            _ => None,
        }
    }

    pub(crate) fn peer(&self) -> Option<String> {
        match self.kind.cause() {
            Cause::Peer(peer) if !peer.is_empty() => Some(peer),
            Cause::Peer(_) => self.subject().map(str::to_owned),
            _ => None,
        }
    }

    /// Takes note of work of the same kind that went well at `at_ns`.
    pub(crate) fn relieve(&mut self, good: Good<'_>, at_ns: Nanos) {
        if at_ns > self.last_ns && self.is_same_work(good) {
            self.good_ns = self.good_ns.max(at_ns);
        }
    }

    fn is_same_work(&self, good: Good<'_>) -> bool {
        match (&self.kind, good) {
            (Kind::Frozen { pid }, Good::Call { pid: runs, .. } | Good::Runs { pid: runs }) => {
                *pid == runs
            }
            (
                Kind::Error {
                    token,
                    cause: Cause::Peer(mine),
                },
                Good::Call { call, peer, .. },
            ) => {
                call.token.call == token.call
                    && call.token.outcome == Outcome::Ok
                    && (mine.is_empty() || peer.is_none_or(|peer| peer == mine))
            }
            (Kind::Error { token, cause }, Good::Call { call, table, .. }) => {
                let stored = *cause == Cause::Disk
                    && call.role == Role::File
                    && matches!(
                        table.kind(call.token.call),
                        CallKind::Write | CallKind::Sync
                    );
                call.token.outcome == Outcome::Ok && (call.token.call == token.call || stored)
            }
            (Kind::SlowCall { token }, Good::Call { call, .. }) => call.token == *token,
            (
                Kind::CrashLoop { executable } | Kind::ProcessEnded { executable },
                Good::Settled { executable: up },
            ) => executable == up,
            (Kind::HeldUp, Good::Served) => true,
            (Kind::Surprise | Kind::SlowService, Good::Familiar) => true,
            (Kind::Unstable | Kind::Astray, Good::Stable) => true,
            (mine, Good::Eased { kind }) => mine == kind,
            (_, Good::Answer { peer }) => {
                matches!(self.kind.cause(), Cause::Peer(mine) if mine.is_empty() || mine == peer)
            }
            _ => false,
        }
    }
}
