//! Calls as captured into windows as the models see them: every call gets the role of its
//! descriptor, and each thread's stream is cut into units of work.
//!
//! A unit ends before a call that waits, before the read of a new request on a served connection
//! (a read after the answer was written), after 64 calls, when the thread ends, where calls were
//! lost, and when the thread has been silent for [`SILENCE_NS`]. Where the kernel programs cut
//! makes no difference.

mod unit;

use std::collections::HashMap;

use stethos_patterns::{
    Role, Window,
    descriptors::{DescriptorTable, Exchange, ObservedCall, tcp_role},
    names::{self, CallTable},
};

use self::unit::Unit;
use crate::record::{
    CallWindow, ContainerIndex, DescriptorInfo, DescriptorTarget, LifecycleEvent, Nanos, Record,
    Subject, WindowEnd,
};

/// A thread that made no call for this long has finished its unit of work.
const SILENCE_NS: u64 = 300_000_000;
/// Threads whose streams are kept at a time.
const MAX_STREAMS: usize = 16_384;

/// What comes out, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    Window(Window),
    /// A request and its answer.
    Exchange(ContainerIndex, Exchange),
    /// At every tick: requests without an answer.
    Pending(ContainerIndex, Vec<Exchange>),
}

/// Streams of all threads of a pod.
pub struct Windows {
    calls: &'static CallTable,
    descriptors: DescriptorTable,
    units: HashMap<(u32, u32), Unit>,
    containers: HashMap<u32, ContainerIndex>,
    listens: HashMap<u32, Vec<String>>,
    /// Calls are only counted now: exchanges come from the kernel.
    reduced: bool,
    /// Exchanges that began before are the kernel's.
    whole_since_ns: Nanos,
    /// Roles of the descriptors of the last record's calls.
    roles: Vec<Role>,
}

impl Windows {
    /// `arch` as in [`crate::record::Header`].
    pub fn new(arch: &str) -> Self {
        Self {
            calls: names::table(arch),
            descriptors: DescriptorTable::new(arch),
            units: HashMap::new(),
            containers: HashMap::new(),
            listens: HashMap::new(),
            reduced: false,
            whole_since_ns: 0,
            roles: Vec::new(),
        }
    }

    /// Roles of the descriptors of the calls of the last [`Record::Window`].
    pub fn roles(&self) -> &[Role] {
        &self.roles
    }

    /// Takes one record; what it completes is added to `out`.
    pub fn on_record(&mut self, record: &Record, out: &mut Vec<Piece>) {
        match record {
            Record::Window(window) => self.window(window, out),
            Record::Detail(detail) => {
                if let Subject::Peer(peer) = &detail.subject
                    && self.calls.is_connect(detail.nr)
                {
                    self.descriptors
                        .connected(detail.pid, detail.fd, detail.at_ns, peer);
                }
            }
            Record::Process(process) => {
                self.containers.insert(process.pid, process.container);
                self.listens.insert(process.pid, process.listens.clone());
            }
            Record::Descriptor(descriptor) => self.descriptor(descriptor),
            Record::Lifecycle(event) => match event.event {
                LifecycleEvent::Exit {
                    group_dead: true, ..
                } => {
                    self.descriptors.ended(event.pid, event.at_ns);
                    self.containers.remove(&event.pid);
                    self.listens.remove(&event.pid);
                }
                LifecycleEvent::Exec { .. } => self.descriptors.forget(event.pid),
                _ => {}
            },
            Record::Threads(snapshot) => self.close_silent(snapshot.at_ns, out),
            Record::Tick(tick) => {
                self.close_silent(tick.at_ns, out);
                self.pending(tick.at_ns, out);
            }
            Record::Reduced(reduced) => {
                self.descriptors.drop_turns();
                self.reduced = reduced.sample != 0;
                self.whole_since_ns = reduced.at_ns;
            }
            Record::Exchange(timed) => out.push(match timed.exchange.received_ns {
                0 => Piece::Pending(timed.container, vec![timed.exchange.clone()]),
                _ => Piece::Exchange(timed.container, timed.exchange.clone()),
            }),
            Record::Life(life) => self.descriptors.begin_life(
                life.pid,
                life.fd,
                life.role,
                life.peer.clone(),
                life.since_ns,
            ),
            Record::Container(_)
            | Record::Http(_)
            | Record::Counts(_)
            | Record::Network(_)
            | Record::Span(_)
            | Record::ThreadSpan(_)
            | Record::Resource(_)
            | Record::Http2(_)
            | Record::Closed(_)
            | Record::Resources(_) => {}
        }
    }

    /// Ends every unit of work: there are no more records.
    pub fn finish(&mut self, out: &mut Vec<Piece>) {
        self.close_silent(Nanos::MAX, out);
    }

    /// Peer of a client socket, when known.
    pub fn peer(&self, pid: u32, fd: i32) -> Option<&str> {
        self.descriptors.peer(pid, fd)
    }

    fn window(&mut self, window: &CallWindow, out: &mut Vec<Piece>) {
        self.containers.insert(window.pid, window.container);
        let key = (window.pid, window.tid);
        if self.units.len() >= MAX_STREAMS && !self.units.contains_key(&key) {
            self.close_oldest(out);
        }
        let unit = self
            .units
            .entry(key)
            .or_insert_with(|| Unit::new(window.container, window.pid, window.tid));
        if window.lost_before > 0 {
            let at_ns = window
                .calls
                .first()
                .map_or(unit.end_ns(), |call| call.enter_ns);
            out.extend(unit.gap(at_ns).map(Piece::Window));
        } else if window.counted_before > 0 {
            // What was counted stands between the calls before and these. A window that was full
            // ended somewhere in a unit of work, and so may those have that were counted.
            let begins = window
                .calls
                .first()
                .is_some_and(|call| self.calls.is_wait(call.nr));
            let ended = unit.resume(begins);
            out.extend(ended.map(Piece::Window));
        }
        unit.weigh(window.weight);
        self.roles.clear();
        for call in &window.calls {
            let observed = self.descriptors.observe(&ObservedCall {
                pid: window.pid,
                tid: window.tid,
                nr: call.nr,
                fd: call.fd,
                ret: call.ret,
                enter_ns: call.enter_ns,
                duration_ns: call.duration_ns,
                no_return: call.no_return,
            });
            let role = if call.fd < 0 && observed.role == Role::None {
                Role::None
            } else {
                observed.role
            };
            self.roles.push(role);
            out.extend(unit.push(self.calls, call, role).map(Piece::Window));
            let own =
                |exchange: &Exchange| !self.reduced && exchange.sent_ns >= self.whole_since_ns;
            if let Some(exchange) = observed.exchange.filter(own) {
                out.push(Piece::Exchange(window.container, exchange));
            }
        }
        unit.window_ended(window.end);
        if window.end == WindowEnd::ThreadExit {
            out.extend(unit.finish().map(Piece::Window));
            self.units.remove(&key);
        }
    }

    fn descriptor(&mut self, info: &DescriptorInfo) {
        // A process may serve what another of its container accepted.
        let container = self.containers.get(&info.pid);
        let beside = |pid: &u32| *pid == info.pid || self.containers.get(pid) == container;
        let of = self.listens.iter().filter(|(pid, _)| beside(pid));
        let listens = of.flat_map(|(_, addresses)| addresses.iter().map(String::as_str));
        let (role, peer) = match &info.target {
            DescriptorTarget::File(_) => (Role::File, None),
            DescriptorTarget::Tcp { local, peer } => (tcp_role(local, listens), Some(peer.clone())),
            DescriptorTarget::Listener(_) => (Role::Listener, None),
            DescriptorTarget::Other(_) => (Role::Other, None),
        };
        self.descriptors.set(info.pid, info.fd, role, peer);
    }

    fn close_silent(&mut self, now_ns: Nanos, out: &mut Vec<Piece>) {
        let mut silent: Vec<(u32, u32)> = self
            .units
            .iter()
            .filter(|(_, unit)| {
                !unit.is_empty() && unit.end_ns() < now_ns.saturating_sub(SILENCE_NS)
            })
            .map(|(key, _)| *key)
            .collect();
        silent.sort_unstable();
        for key in silent {
            out.extend(
                self.units
                    .get_mut(&key)
                    .and_then(Unit::finish)
                    .map(Piece::Window),
            );
        }
    }

    fn close_oldest(&mut self, out: &mut Vec<Piece>) {
        let oldest = self
            .units
            .iter()
            .min_by_key(|(key, unit)| (unit.end_ns(), **key))
            .map(|(key, _)| *key);
        if let Some(mut unit) = oldest.and_then(|key| self.units.remove(&key)) {
            out.extend(unit.finish().map(Piece::Window));
        }
    }

    fn pending(&mut self, now_ns: Nanos, out: &mut Vec<Piece>) {
        let mut by_container: HashMap<ContainerIndex, Vec<Exchange>> = HashMap::new();
        if self.reduced {
            return;
        }
        for exchange in self.descriptors.pending(now_ns) {
            if let Some(container) = self.containers.get(&exchange.pid) {
                by_container.entry(*container).or_default().push(exchange);
            }
        }
        let mut by_container: Vec<_> = by_container.into_iter().collect();
        by_container.sort_by_key(|(container, _)| *container);
        out.extend(
            by_container
                .into_iter()
                .map(|(c, pending)| Piece::Pending(c, pending)),
        );
    }
}

#[cfg(test)]
mod tests;
