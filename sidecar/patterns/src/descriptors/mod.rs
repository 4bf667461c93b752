//! What the descriptors of processes stand for, learnt from their calls, and the exchanges of
//! requests and answers on their sockets.
//!
//! Calls of one thread must come in order; calls of different threads may come somewhat out of
//! order, as their windows do: everything is decided by the times in the calls. Threads of a
//! process share its descriptors. A new process starts with an empty table.

mod action;
mod exchange;
mod hints;

use std::collections::{HashMap, VecDeque};

use crate::names;
use crate::token::Outcome;
use crate::window::Role;

use action::{Action, Actions};
pub use exchange::Exchange;
use exchange::Turn;
use hints::PeerHints;

/// One finished call, as capture delivers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObservedCall {
    pub pid: u32,
    pub tid: u32,
    pub nr: u16,
    /// First argument of calls that take a descriptor there, -1 otherwise.
    pub fd: i32,
    /// Return value (-errno on error).
    pub ret: i64,
    pub enter_ns: u64,
    pub duration_ns: u64,
    /// Entered and never returned.
    pub no_return: bool,
}

impl ObservedCall {
    fn end_ns(&self) -> u64 {
        self.enter_ns.saturating_add(self.duration_ns)
    }

    fn outcome(&self) -> Outcome {
        if self.no_return {
            Outcome::NoReturn
        } else {
            Outcome::from_return(self.ret)
        }
    }

    /// The descriptor that the call returned.
    fn returned_fd(&self) -> Option<i32> {
        i32::try_from(self.ret).ok().filter(|fd| *fd >= 0)
    }
}

/// What the table says about one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Of the descriptor the call works on; for calls that make one, of what they make.
    pub role: Role,
    /// The exchange that this call ended.
    pub exchange: Option<Exchange>,
}

/// Descriptors of all processes of a container or a pod, at most [`DescriptorTable::CAPACITY`];
/// beyond that those learnt first are dropped and counted.
#[derive(Debug)]
pub struct DescriptorTable {
    actions: Actions,
    processes: HashMap<u32, HashMap<i32, Entry>>,
    /// In order of learning; entries replaced since then have another generation.
    order: VecDeque<(u32, i32, u64)>,
    generation: u64,
    len: usize,
    capacity: usize,
    dropped: u64,
    hints: PeerHints,
}

#[derive(Clone, Debug)]
struct Entry {
    generation: u64,
    /// `Role::None` marks a number that was closed.
    role: Role,
    /// Calls that ended before are about an earlier life of this number.
    since_ns: u64,
    peer: Option<String>,
    /// When the last `connect` was entered.
    connect_ns: u64,
    turn: Turn,
}

impl DescriptorTable {
    pub const CAPACITY: usize = 65_536;

    /// `arch` says what call numbers mean, see [`names::table`].
    pub fn new(arch: &str) -> Self {
        Self::with_capacity(arch, Self::CAPACITY)
    }

    pub fn with_capacity(arch: &str, capacity: usize) -> Self {
        DescriptorTable {
            actions: Actions::new(names::table(arch)),
            processes: HashMap::new(),
            order: VecDeque::new(),
            generation: 0,
            len: 0,
            capacity: capacity.max(1),
            dropped: 0,
            hints: PeerHints::default(),
        }
    }

    /// Takes one call.
    pub fn observe(&mut self, call: &ObservedCall) -> Observed {
        let action = self.actions.of(call.nr);
        let ok = !call.no_return && call.ret >= 0;
        match action {
            Action::Nothing => Observed {
                role: self.role_at(call),
                exchange: None,
            },
            Action::Make(role) => {
                if let Some(fd) = call.returned_fd().filter(|_| ok) {
                    self.open(call.pid, fd, role, call.end_ns());
                }
                Observed {
                    role,
                    exchange: None,
                }
            }
            Action::Accept => {
                self.learn(call, Role::Listener);
                if let Some(fd) = call.returned_fd().filter(|_| ok) {
                    self.open(call.pid, fd, Role::Server, call.end_ns());
                }
                Observed {
                    role: Role::Listener,
                    exchange: None,
                }
            }
            Action::Listen => {
                if ok {
                    self.learn(call, Role::Listener);
                }
                Observed {
                    role: Role::Listener,
                    exchange: None,
                }
            }
            Action::Connect => {
                self.connect(call);
                Observed {
                    role: Role::Client,
                    exchange: None,
                }
            }
            Action::Duplicate | Action::Control => {
                let role = self.role_at(call);
                let fd = call.returned_fd().filter(|fd| ok && *fd != call.fd);
                if let Some(fd) =
                    fd.filter(|fd| action == Action::Duplicate || self.is_new(call.pid, *fd))
                {
                    self.duplicate(call, fd);
                }
                Observed {
                    role,
                    exchange: None,
                }
            }
            Action::Close => {
                let role = self.role_at(call);
                Observed {
                    role,
                    exchange: self.close(call),
                }
            }
            Action::Read | Action::Write => self.transfer(call, action),
            Action::FileWork => {
                if ok {
                    self.learn_if_unknown(call, Role::File);
                }
                Observed {
                    role: self.role_at(call),
                    exchange: None,
                }
            }
        }
    }

    /// The peer of a `connect` that returned at `at_ns`, from its captured address. May come
    /// before or after the call itself.
    pub fn connected(&mut self, pid: u32, fd: i32, at_ns: u64, peer: &str) {
        if let Some(entry) = self.entry_mut(pid, fd)
            && entry.role == Role::Client
            && entry.peer.is_none()
            && entry.connect_ns > 0
            && (entry.connect_ns..=entry.connect_ns.saturating_add(hints::LATEST_NS))
                .contains(&at_ns)
        {
            entry.peer = Some(peer.to_owned());
            return;
        }
        self.hints.add(pid, fd, at_ns, peer);
    }

    /// A fact from outside, for descriptors that are older than capture (see [`tcp_role`]). What
    /// calls have taught is not replaced, only completed.
    pub fn set(&mut self, pid: u32, fd: i32, role: Role, peer: Option<String>) {
        if role == Role::None || fd < 0 {
            return;
        }
        match self.entry_mut(pid, fd) {
            Some(entry) if entry.role == role => entry.peer = entry.peer.take().or(peer),
            Some(entry) if !matches!(entry.role, Role::None | Role::Other) => {}
            Some(entry) => {
                entry.role = role;
                entry.peer = peer;
            }
            None => {
                self.open(pid, fd, role, 0);
                if let Some(entry) = self.entry_mut(pid, fd) {
                    entry.peer = peer;
                }
            }
        }
    }

    /// What a descriptor stands for now; `Role::None` when not known.
    pub fn role(&self, pid: u32, fd: i32) -> Role {
        self.entry(pid, fd).map_or(Role::None, |entry| entry.role)
    }

    /// Address that a client socket is connected to, or was tried to.
    pub fn peer(&self, pid: u32, fd: i32) -> Option<&str> {
        self.entry(pid, fd)?.peer.as_deref()
    }

    /// Requests of client sockets that have no answer at `now_ns`, oldest first, with
    /// `received_ns` = 0. `sent_ns` is the *first* write since the last answer: a peer that
    /// hangs is seen although requests keep being written. Sockets on which answers never come
    /// by design (log shippers) are in the list too.
    pub fn pending(&self, now_ns: u64) -> Vec<Exchange> {
        let mut pending: Vec<Exchange> = self
            .processes
            .iter()
            .flat_map(|(pid, table)| table.iter().map(move |(fd, entry)| (*pid, *fd, entry)))
            .filter(|(.., entry)| entry.role == Role::Client)
            .filter_map(|(pid, fd, entry)| {
                let (sent_ns, tid) = entry.turn.unanswered()?;
                (sent_ns <= now_ns).then(|| Exchange {
                    pid,
                    tid,
                    fd,
                    role: Role::Client,
                    peer: entry.peer.clone(),
                    sent_ns,
                    received_ns: 0,
                    failed: None,
                })
            })
            .collect();
        pending.sort_by_key(|exchange| (exchange.sent_ns, exchange.pid, exchange.fd));
        pending
    }

    /// Drops all that is known of a process: it ended, or replaced itself.
    pub fn forget(&mut self, pid: u32) {
        if let Some(table) = self.processes.remove(&pid) {
            self.len -= table.len();
        }
    }

    /// Entries held, closed numbers included.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Entries dropped for lack of room since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn entry(&self, pid: u32, fd: i32) -> Option<&Entry> {
        self.processes.get(&pid)?.get(&fd)
    }

    fn entry_mut(&mut self, pid: u32, fd: i32) -> Option<&mut Entry> {
        self.processes.get_mut(&pid)?.get_mut(&fd)
    }

    /// The entry that a call is about; none when the call is about an earlier life.
    fn entry_at(&mut self, call: &ObservedCall) -> Option<&mut Entry> {
        let end_ns = call.end_ns();
        self.entry_mut(call.pid, call.fd)
            .filter(|entry| end_ns >= entry.since_ns)
    }

    fn role_at(&mut self, call: &ObservedCall) -> Role {
        self.entry_at(call).map_or(Role::None, |entry| entry.role)
    }

    fn is_new(&self, pid: u32, fd: i32) -> bool {
        self.role(pid, fd) == Role::None && (3..1024).contains(&fd)
    }

    /// A new life of a number, unless a later one is already known.
    fn open(&mut self, pid: u32, fd: i32, role: Role, at_ns: u64) {
        if self
            .entry(pid, fd)
            .is_some_and(|entry| entry.since_ns > at_ns)
        {
            return;
        }
        self.generation += 1;
        let entry = Entry {
            generation: self.generation,
            role,
            since_ns: at_ns,
            peer: None,
            connect_ns: 0,
            turn: Turn::default(),
        };
        self.order.push_back((pid, fd, self.generation));
        if self
            .processes
            .entry(pid)
            .or_default()
            .insert(fd, entry)
            .is_none()
        {
            self.len += 1;
        }
        self.shrink();
    }

    /// Keeps the number of entries and the length of `order` in bounds.
    fn shrink(&mut self) {
        while self.len > self.capacity {
            let Some((pid, fd, generation)) = self.order.pop_front() else {
                return;
            };
            let Some(table) = self.processes.get_mut(&pid) else {
                continue;
            };
            if table
                .get(&fd)
                .is_some_and(|entry| entry.generation == generation)
            {
                table.remove(&fd);
                self.len -= 1;
                self.dropped += 1;
                if table.is_empty() {
                    self.processes.remove(&pid);
                }
            }
        }
        if self.order.len() > 2 * self.capacity.max(512) {
            let processes = &self.processes;
            self.order.retain(|(pid, fd, generation)| {
                let entry = processes.get(pid).and_then(|table| table.get(fd));
                entry.is_some_and(|entry| entry.generation == *generation)
            });
        }
    }

    /// The call shows what its descriptor stands for.
    fn learn(&mut self, call: &ObservedCall, role: Role) {
        match self.entry_at(call) {
            Some(entry) => entry.role = role,
            None => self.open(call.pid, call.fd, role, 0),
        }
    }

    fn learn_if_unknown(&mut self, call: &ObservedCall, role: Role) {
        match self.entry_at(call) {
            Some(entry) if entry.role == Role::None => entry.role = role,
            Some(_) => {}
            None => self.open(call.pid, call.fd, role, 0),
        }
    }

    fn connect(&mut self, call: &ObservedCall) {
        if call.no_return || call.fd < 0 {
            return;
        }
        let peer = self
            .hints
            .take(call.pid, call.fd, call.enter_ns, call.end_ns());
        self.learn(call, Role::Client);
        if let Some(entry) = self.entry_at(call) {
            entry.peer = peer;
            entry.connect_ns = call.enter_ns;
            entry.turn = Turn::default();
        }
    }

    fn duplicate(&mut self, call: &ObservedCall, fd: i32) {
        let Some((role, peer)) = self
            .entry_at(call)
            .map(|entry| (entry.role, entry.peer.clone()))
        else {
            return;
        };
        self.open(call.pid, fd, role, call.end_ns());
        if let Some(copy) = self
            .entry_mut(call.pid, fd)
            .filter(|copy| copy.role == role)
        {
            copy.peer = peer;
        }
    }

    /// `close` frees the number even when it reports an error, except `EBADF` (9).
    fn close(&mut self, call: &ObservedCall) -> Option<Exchange> {
        if call.no_return || call.ret == -9 {
            return None;
        }
        let entry = self
            .entry_mut(call.pid, call.fd)
            .filter(|e| call.enter_ns >= e.since_ns)?;
        let turn = std::mem::take(&mut entry.turn);
        let role = std::mem::replace(&mut entry.role, Role::None);
        let peer = entry.peer.take();
        entry.since_ns = call.enter_ns;
        entry.connect_ns = 0;
        (role == Role::Client)
            .then(|| turn.abandoned(call.enter_ns))?
            .map(|ended| ended.exchange(call, role, peer))
    }

    fn transfer(&mut self, call: &ObservedCall, action: Action) -> Observed {
        let outcome = call.outcome();
        let Some(entry) = self.entry_at(call) else {
            return Observed::default();
        };
        let role = entry.role;
        let ended = match (role, action) {
            (Role::Client, Action::Write) => entry.turn.client_write(call, outcome),
            (Role::Client, _) => entry.turn.client_read(call, outcome),
            (Role::Server, Action::Write) => entry.turn.server_write(call, outcome),
            (Role::Server, _) => entry.turn.server_read(call),
            _ => None,
        };
        let exchange = ended.map(|ended| ended.exchange(call, role, entry.peer.clone()));
        Observed { role, exchange }
    }
}

/// Role of an established TCP socket from its local address: `Server` when the process listens
/// on the same port. Addresses are `host:port` with `host` an IPv4 address or a bracketed IPv6
/// one.
pub fn tcp_role<'a>(local: &str, listens: impl IntoIterator<Item = &'a str>) -> Role {
    let port = |address: &str| address.rsplit_once(':')?.1.parse::<u16>().ok();
    let Some(local) = port(local) else {
        return Role::Client;
    };
    if listens
        .into_iter()
        .any(|address| port(address) == Some(local))
    {
        Role::Server
    } else {
        Role::Client
    }
}

#[cfg(test)]
mod tests;
