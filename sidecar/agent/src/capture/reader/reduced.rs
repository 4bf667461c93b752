//! What the reader does while calls are only counted: it tells the counts, the exchanges that the
//! kernel timed, what descriptors have become meanwhile, and the HTTP heads before a failure.

use std::collections::{BTreeSet, HashMap, HashSet};

use stethos_events::{DescriptorEntry, Event, kind, role, turn};
use stethos_patterns::{Outcome, Role, Token, descriptors::Exchange};

use super::Reader;
use crate::{
    capture::{
        decode,
        followed::{role_number, role_of},
        peers::Peers,
        pod::{MappingError, PodMaps},
        reduction::{Counted, KindOf, SharedReducer},
    },
    record::{
        CallCounts, CallWindow, ContainerIndex, CountedKind, CountedRow, DescriptorLife,
        DescriptorTarget, Nanos, Record, Reduced, Subject, TimedExchange,
    },
};

/// An exchange without an answer for this long is told every second.
const PENDING_NS: u64 = 500_000_000;
/// Stretches of time in which calls were only counted that are remembered apart.
const STRETCHES: usize = 64;
/// Descriptors whose life was told.
const LIVES: usize = 65_536;
/// Cgroups whose addresses are remembered, and addresses that processes of one listen on.
const CGROUPS: usize = 1024;
const LISTENS: usize = 1024;

pub(super) struct ReducedPod {
    reducer: SharedReducer,
    peers: Peers,
    /// Start and end of the stretches in which calls were only counted; no end: until now.
    stretches: Vec<(Nanos, Option<Nanos>)>,
    /// What was last told of a descriptor: since when it is what it is.
    lives: HashMap<(u32, i32), Nanos>,
    /// Processes that ended or executed something else, and when.
    ended: HashMap<u32, Nanos>,
    /// What processes of each cgroup listen on, or did: a process may serve what another accepted.
    listens: HashMap<u64, BTreeSet<String>>,
}

impl ReducedPod {
    pub(super) fn new(reducer: SharedReducer) -> Self {
        Self {
            reducer,
            peers: Peers::default(),
            stretches: Vec::new(),
            lives: HashMap::new(),
            ended: HashMap::new(),
            listens: HashMap::new(),
        }
    }

    fn listens(&mut self, cgroup: u64, addresses: &[String]) {
        if self.listens.len() >= CGROUPS && !self.listens.contains_key(&cgroup) {
            // Most of them are gone.
            self.listens.clear();
        }
        let known = self.listens.entry(cgroup).or_default();
        let room = LISTENS.saturating_sub(known.len());
        known.extend(addresses.iter().take(room).cloned());
    }

    pub(super) fn renew(&mut self, maps: &PodMaps) -> Result<(), MappingError> {
        self.lives.clear();
        self.reducer.lock().renew(maps)
    }

    /// Completes what an event says from what is known of peers.
    pub(super) fn completed(&mut self, event: &Event, payload: &[u8], record: Record) -> Record {
        match record {
            Record::Exchange(mut timed) => {
                let peer = self.peers.name(decode::exchange_peer(payload));
                timed.exchange.peer = peer.map(str::to_owned);
                Record::Exchange(timed)
            }
            Record::Detail(detail) => {
                if let Subject::Peer(peer) = &detail.subject {
                    self.peers.know(peer);
                }
                Record::Detail(detail)
            }
            Record::Lifecycle(lifecycle) => {
                if decode::ends_process(event) || event.kind == kind::EXEC {
                    self.ended.insert(event.pid, event.at_ns);
                }
                Record::Lifecycle(lifecycle)
            }
            other => other,
        }
    }

    /// Sockets that diagnosis wants to know about.
    pub(super) fn looked_at(&self) -> Vec<(u32, i32)> {
        self.reducer.lock().looked_at().to_vec()
    }

    fn now(&self) -> bool {
        self.stretches.last().is_some_and(|(_, end)| end.is_none())
    }

    fn covers(&self, at_ns: Nanos) -> bool {
        self.stretches
            .iter()
            .any(|(start, end)| *start <= at_ns && end.is_none_or(|end| at_ns <= end))
    }

    fn change(&mut self, sample: u32, at_ns: Nanos) {
        match (sample, self.stretches.last_mut()) {
            (0, Some((_, end @ None))) => *end = Some(at_ns),
            (0, _) | (_, Some((_, None))) => {}
            _ => {
                if self.stretches.len() >= STRETCHES {
                    // The two oldest become one: it covers too much rather than too little.
                    let (start, _) = self.stretches.remove(0);
                    self.stretches[0].0 = start;
                }
                self.stretches.push((at_ns, None));
            }
        }
    }
}

impl Reader {
    /// Tells when reduction begins, changes or ends; at its end also what came just before.
    pub(super) fn tell_reduced(&mut self, out: &mut Vec<Record>) {
        let changes = self.reduced.reducer.lock().take_changes();
        for (sample, at_ns) in changes {
            self.reduced.change(sample, at_ns);
            if sample == 0 {
                self.kept_heads(out);
                self.tell_counts(at_ns, out);
            }
            out.push(Record::Reduced(Reduced { at_ns, sample }));
        }
    }

    /// Tells the HTTP heads that were kept since this was last asked.
    fn kept_heads(&mut self, out: &mut Vec<Record>) {
        for event in self.pod.heads.take() {
            let len = (event.len as usize).min(event.bytes.len());
            let (facts, node) = (&mut self.facts, self.node.as_mut());
            let container = facts.container(node, event.cgroup, event.at_ns, out);
            match decode::record(container, &event, &event.bytes[..len]) {
                Ok(record) => out.extend(record),
                // It was overwritten while it was read.
                Err(error) => tracing::debug!(%error, "an HTTP head could not be read"),
            }
        }
    }

    /// Tells what the descriptors of a window's calls have become while calls were only counted,
    /// and the HTTP heads before a failure.
    pub(super) fn lives(&mut self, window: &CallWindow, out: &mut Vec<Record>) {
        if self.reduced.stretches.is_empty() {
            return;
        }
        let failed = |ret| Token::new(0, ret).outcome.is_error();
        if self.reduced.now() && window.calls.iter().any(|call| failed(call.ret)) {
            self.kept_heads(out);
        }
        let fds: HashSet<i32> = window.calls.iter().map(|call| call.fd).collect();
        let mut fds: Vec<i32> = fds.into_iter().filter(|fd| *fd >= 0).collect();
        fds.sort_unstable();
        for fd in fds {
            let Some(entry) = self.pod.followed.get(window.pid, fd) else {
                continue;
            };
            let reduced = &mut self.reduced;
            let told = reduced.lives.get(&(window.pid, fd));
            if told == Some(&entry.since_ns) || !reduced.covers(entry.since_ns) {
                continue;
            }
            if reduced.lives.len() >= LIVES {
                reduced.lives.clear();
            }
            reduced.lives.insert((window.pid, fd), entry.since_ns);
            out.push(Record::Life(DescriptorLife {
                since_ns: entry.since_ns,
                pid: window.pid,
                fd,
                role: role_of(&entry),
                peer: reduced.peers.name(entry.peer).map(str::to_owned),
            }));
        }
    }

    /// Tells the kernel what the descriptors of a process stand for, as far as it cannot know.
    pub(super) fn tell_kernel(&mut self, told: &[Record], cgroup: u64) {
        for record in told {
            let info = match record {
                Record::Process(process) => {
                    self.reduced.listens(cgroup, &process.listens);
                    continue;
                }
                Record::Descriptor(info) => info,
                _ => continue,
            };
            let (of, peer) = match &info.target {
                DescriptorTarget::File(_) => (Role::File, None),
                DescriptorTarget::Tcp { local, peer } => (
                    stethos_patterns::descriptors::tcp_role(
                        local,
                        self.reduced
                            .listens
                            .get(&cgroup)
                            .into_iter()
                            .flatten()
                            .map(String::as_str),
                    ),
                    Some(peer),
                ),
                DescriptorTarget::Listener(_) => (Role::Listener, None),
                DescriptorTarget::Other(_) => (Role::Other, None),
            };
            let peer = peer.map(|peer| self.reduced.peers.know(peer));
            self.pod.followed.tell(DescriptorEntry {
                key: stethos_events::descriptor_key(info.pid, info.fd),
                peer: peer.and_then(|hashes| hashes.first().copied()).unwrap_or(0),
                role: role_number(of),
                container: cgroup,
                ..DescriptorEntry::default()
            });
        }
    }

    /// Tells what was counted since this was last told.
    pub(super) fn tell_counts(&mut self, at_ns: Nanos, out: &mut Vec<Record>) {
        let mut reducer = self.reduced.reducer.lock();
        for (cgroup, container) in self.facts.containers() {
            reducer.know(container, cgroup);
        }
        let counted = reducer.counted_since();
        drop(reducer);
        let mut rows: HashMap<ContainerIndex, Vec<CountedRow>> = HashMap::new();
        for (kind, counted) in counted {
            if let Some(container) = self.facts.known(kind.cgroup) {
                rows.entry(container)
                    .or_default()
                    .push(row(kind.of, &counted));
            }
        }
        let mut rows: Vec<_> = rows.into_iter().collect();
        rows.sort_by_key(|(container, _)| *container);
        for (container, rows) in rows {
            out.push(Record::Counts(CallCounts {
                at_ns,
                container,
                rows,
            }));
        }
    }

    /// Tells of requests that have no answer, and gives back what ended processes held.
    pub(super) fn tell_pending(&mut self, now: Nanos, out: &mut Vec<Record>) {
        let ended = std::mem::take(&mut self.reduced.ended);
        if !ended.is_empty() {
            let gone = |entry: &DescriptorEntry| {
                let at_ns = ended.get(&entry.pid());
                at_ns.is_some_and(|at_ns| entry.since_ns <= *at_ns)
            };
            self.pod.followed.sweep(gone);
            self.reduced
                .lives
                .retain(|(pid, _), _| !ended.contains_key(pid));
        }
        if !self.reduced.now() {
            return;
        }
        let open = turn::SENT | turn::REDUCED;
        let mut pending = Vec::new();
        for entry in self.pod.followed.all() {
            let waits = entry.role == role::CLIENT
                && entry.turn & open == open
                && entry.asked_ns != 0
                && entry.asked_ns + PENDING_NS < now;
            let Some(container) = self.facts.known(entry.container).filter(|_| waits) else {
                continue;
            };
            pending.push(TimedExchange {
                at_ns: now,
                container,
                exchange: Exchange {
                    pid: entry.pid(),
                    tid: entry.tid,
                    fd: entry.fd(),
                    role: Role::Client,
                    peer: self.reduced.peers.name(entry.peer).map(str::to_owned),
                    sent_ns: entry.asked_ns,
                    received_ns: 0,
                    failed: None,
                },
            });
        }
        pending.sort_by_key(|timed| (timed.exchange.sent_ns, timed.exchange.fd));
        out.extend(pending.into_iter().map(Record::Exchange));
    }
}

fn row(of: KindOf, counted: &Counted) -> CountedRow {
    let classes = (0u8..).zip(&counted.classes);
    CountedRow {
        kind: match of {
            KindOf::Call(token) => CountedKind::Call(call_token(token)),
            KindOf::Answers(peer) => CountedKind::Answers { peer },
            KindOf::Service => CountedKind::Service,
        },
        count: counted.calls,
        duration_ns: counted.waited_ns,
        classes: classes
            .filter(|(_, calls)| **calls > 0)
            .map(|(class, calls)| (class, *calls))
            .collect(),
    }
}

/// The token of 16 bits that the kernel keeps, as the models know it.
fn call_token(token: u16) -> Token {
    let outcome = match token & 0x7f {
        0 => Outcome::Ok,
        4 | 124 => Outcome::Interrupted,
        errno => Outcome::Errno(errno as u8),
    };
    Token {
        call: token >> 7,
        outcome,
    }
}
