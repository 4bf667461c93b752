//! What the descriptors of processes stand for, learnt from their calls, and the exchanges of
//! requests and answers on their sockets.
//!
//! Calls of one thread must come in order; calls of different threads may come somewhat out of
//! order, as their windows do: everything is decided by the times in the calls. Threads of a
//! process share its descriptors. A new process starts with an empty table.

mod action;
mod call;
mod entries;
mod exchange;
mod hints;

use crate::names;
use crate::window::Role;

use action::Actions;
pub use action::{Action, action};
pub use call::{Observed, ObservedCall};
use entries::{Entries, Entry};
pub use exchange::Exchange;
use exchange::Turn;
use hints::PeerHints;

const EBADF: i64 = 9;
const ENOTSOCK: i64 = 88;
const EISCONN: i64 = 106;
const EALREADY: i64 = 114;

/// Descriptors of all processes of a container or a pod, at most [`DescriptorTable::CAPACITY`];
/// beyond that those learnt first are dropped and counted.
#[derive(Debug)]
pub struct DescriptorTable {
    actions: Actions,
    entries: Entries,
    hints: PeerHints,
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
            entries: Entries::new(capacity),
            hints: PeerHints::default(),
        }
    }

    /// Takes one call.
    pub fn observe(&mut self, call: &ObservedCall) -> Observed {
        let action = self.actions.of(call.nr);
        let ok = !call.no_return && call.ret >= 0;
        match action {
            Action::Make(role) => {
                self.returned(call, role);
                Observed::of(role)
            }
            Action::Accept => {
                self.learn(call, Role::Listener);
                self.returned(call, Role::Server);
                Observed::of(Role::Listener)
            }
            Action::Listen => {
                self.learn(call, Role::Listener);
                Observed::of(Role::Listener)
            }
            Action::Connect => {
                self.connect(call);
                Observed::of(Role::Client)
            }
            Action::Duplicate => {
                self.duplicate(call);
                Observed::of(self.role_at(call))
            }
            Action::Control => {
                if (3..1024).contains(&call.ret) && self.is_unused(call.pid, call.ret) {
                    self.duplicate(call);
                }
                Observed::of(self.role_at(call))
            }
            Action::FileWork if ok && self.role_at(call) == Role::None => {
                self.learn(call, Role::File);
                Observed::of(Role::File)
            }
            Action::Close => {
                let role = self.role_at(call);
                Observed {
                    role,
                    exchange: self.close(call),
                }
            }
            Action::Read | Action::Write => self.transfer(call, action),
            Action::FileWork | Action::Nothing => Observed::of(self.role_at(call)),
        }
    }

    /// The peer of a `connect` that returned at `at_ns`, from its captured address. May come
    /// before or after the call itself.
    pub fn connected(&mut self, pid: u32, fd: i32, at_ns: u64, peer: &str) {
        if let Some(entry) = self.entries.get_mut(pid, fd)
            && entry.role == Role::Client
            && entry.peer.is_none()
            && entry
                .connect_ns
                .is_some_and(|(enter, end)| hints::belongs(at_ns, enter, end))
        {
            entry.peer = Some(peer.to_owned());
        } else {
            self.hints.add(pid, fd, at_ns, peer);
        }
    }

    /// A fact from outside, for descriptors that are older than capture (see [`tcp_role`]). What
    /// calls have taught is not replaced, only completed.
    pub fn set(&mut self, pid: u32, fd: i32, role: Role, peer: Option<String>) {
        if role == Role::None || fd < 0 {
            return;
        }
        let entry = match self.entries.get_mut(pid, fd) {
            Some(entry) if entry.role == role => {
                entry.peer = entry.peer.take().or(peer);
                return;
            }
            Some(entry) if !matches!(entry.role, Role::None | Role::Other) => return,
            Some(entry) => Some(entry),
            None => self.entries.open(pid, fd, role, 0, u64::MAX),
        };
        if let Some(entry) = entry {
            entry.role = role;
            entry.peer = peer;
        }
    }

    /// A descriptor has been this since then, as told from outside; `Role::None`: it was closed.
    pub fn begin_life(
        &mut self,
        pid: u32,
        fd: i32,
        role: Role,
        peer: Option<String>,
        since_ns: u64,
    ) {
        if fd < 0 {
            return;
        }
        if let Some(entry) = self.entries.open(pid, fd, role, since_ns, since_ns) {
            entry.peer = peer;
        }
    }

    /// Forgets whose turn it is on every socket: what comes now does not follow on what was seen.
    pub fn drop_turns(&mut self) {
        self.entries
            .iter_mut()
            .for_each(|entry| entry.turn = Turn::default());
    }

    /// What a descriptor stands for now; `Role::None` when not known.
    pub fn role(&self, pid: u32, fd: i32) -> Role {
        self.entries
            .get(pid, fd)
            .map_or(Role::None, |entry| entry.role)
    }

    /// Address that a client socket is connected to, or was tried to.
    pub fn peer(&self, pid: u32, fd: i32) -> Option<&str> {
        self.entries.get(pid, fd)?.peer.as_deref()
    }

    /// Requests of client sockets that have no answer at `now_ns`, oldest first, with
    /// `received_ns` = 0. `sent_ns` is the *first* write since the last answer: a peer that
    /// hangs is seen although requests keep being written. Sockets on which answers never come
    /// by design (log shippers) are in the list too.
    pub fn pending(&self, now_ns: u64) -> Vec<Exchange> {
        let mut pending: Vec<Exchange> = self
            .entries
            .iter()
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

    /// Drops all that is known of a process, which replaced itself.
    pub fn forget(&mut self, pid: u32) {
        self.entries.forget(pid);
    }

    /// Drops all that is known of a process, which ended then; calls that come later but
    /// happened before teach nothing.
    pub fn ended(&mut self, pid: u32, at_ns: u64) {
        self.entries.end(pid, at_ns);
    }

    /// Entries held, closed numbers included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entries dropped for lack of room since the start.
    pub fn dropped(&self) -> u64 {
        self.entries.dropped()
    }

    /// The entry that a call is about; none when the call is about an earlier life.
    fn entry_at(&mut self, call: &ObservedCall) -> Option<&mut Entry> {
        let end_ns = call.end_ns();
        let entry = self.entries.get_mut(call.pid, call.fd)?;
        (end_ns >= entry.since_ns).then_some(entry)
    }

    fn role_at(&mut self, call: &ObservedCall) -> Role {
        self.entry_at(call).map_or(Role::None, |entry| entry.role)
    }

    fn is_unused(&self, pid: u32, fd: i64) -> bool {
        i32::try_from(fd).is_ok_and(|fd| self.role(pid, fd) == Role::None)
    }

    /// The descriptor that the call returned begins a life.
    fn returned(&mut self, call: &ObservedCall, role: Role) {
        if let Some(fd) = call.returned_fd() {
            self.entries
                .open(call.pid, fd, role, call.end_ns(), call.end_ns());
        }
    }

    /// The call shows what its descriptor stands for, whether it succeeded or not.
    fn learn(&mut self, call: &ObservedCall, role: Role) -> Option<&mut Entry> {
        if call.no_return || call.fd < 0 || matches!(-call.ret, EBADF | ENOTSOCK) {
            return None;
        }
        if self.entries.get(call.pid, call.fd).is_none() {
            return self.entries.open(call.pid, call.fd, role, 0, call.end_ns());
        }
        let entry = self.entry_at(call)?;
        entry.role = role;
        Some(entry)
    }

    fn connect(&mut self, call: &ObservedCall) {
        let peer = self
            .hints
            .take(call.pid, call.fd, call.enter_ns, call.end_ns());
        let Some(entry) = self.learn(call, Role::Client) else {
            return;
        };
        if matches!(-call.ret, EALREADY | EISCONN) {
            entry.peer = peer.or(entry.peer.take());
            return;
        }
        entry.peer = peer;
        entry.connect_ns = Some((call.enter_ns, call.end_ns()));
        entry.turn = Turn::default();
    }

    fn duplicate(&mut self, call: &ObservedCall) {
        let Some(fd) = call.returned_fd().filter(|fd| *fd != call.fd) else {
            return;
        };
        let original = self.entry_at(call).filter(|entry| entry.role != Role::None);
        let Some((role, peer)) = original.map(|entry| (entry.role, entry.peer.clone())) else {
            return;
        };
        let at_ns = call.end_ns();
        if let Some(copy) = self.entries.open(call.pid, fd, role, at_ns, at_ns) {
            copy.peer = peer;
        }
    }

    /// `close` frees the number even when it reports an error, except `EBADF`.
    fn close(&mut self, call: &ObservedCall) -> Option<Exchange> {
        if call.no_return || call.ret == -EBADF {
            return None;
        }
        let entry = self.entries.get_mut(call.pid, call.fd)?;
        if call.enter_ns < entry.since_ns {
            return None;
        }
        entry.since_ns = call.enter_ns;
        entry.connect_ns = None;
        let turn = std::mem::take(&mut entry.turn);
        let peer = entry.peer.take();
        let role = std::mem::replace(&mut entry.role, Role::None);
        if role != Role::Client {
            return None;
        }
        turn.abandoned(call.enter_ns)
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
