//! Connections that are asked for without waiting (`EINPROGRESS`) and given up unused. One whose
//! error `getsockopt` handed out is not among them: that is an error like any other.

use std::collections::{BTreeMap, VecDeque};

use stethos_patterns::names::CallKind;
use stethos_patterns::{Outcome, WindowCall};

use crate::diagnosis::errno::EINPROGRESS;
use crate::diagnosis::signal::{Kind, Place, Signal, Standing};
use crate::diagnosis::signals::Scene;
use crate::record::{ContainerIndex, Nanos};
use crate::sequential::SECOND;

const MAX_CONNECTIONS: usize = 2048;
/// Windows of other threads that used the connection may come this much later.
const SETTLE: Nanos = SECOND / 4;
/// A refusal is answered at once; a peer that is not there, after a time-out.
const QUICK: Nanos = SECOND;
const REPEAT_WITHIN: Nanos = 30 * SECOND;
/// Normal exchanges with a peer from which on it is one that is really used.
const USED: u64 = 5;

#[derive(Clone, Debug)]
struct Connection {
    container: ContainerIndex,
    tid: u32,
    peer: Option<String>,
    opened_ns: Nanos,
}

#[derive(Clone, Debug)]
struct Ended {
    pid: u32,
    fd: i32,
    connection: Connection,
    closed_ns: Nanos,
}

#[derive(Debug, Default)]
pub(crate) struct Connections {
    open: BTreeMap<(u32, i32), Connection>,
    ended: VecDeque<Ended>,
    failures: BTreeMap<(ContainerIndex, String, bool), (Nanos, u64)>,
}

impl Connections {
    pub(crate) fn observe(&mut self, scene: &Scene<'_>, call: &WindowCall) {
        let key = (scene.pid, call.fd);
        match scene.table.kind(call.token.call) {
            CallKind::Connect => {
                self.open.remove(&key);
                if call.token.outcome == Outcome::Errno(EINPROGRESS) {
                    if self.open.len() >= MAX_CONNECTIONS {
                        self.open.pop_first();
                    }
                    let connection = Connection {
                        container: scene.container,
                        tid: scene.tid,
                        peer: scene.peer(call),
                        opened_ns: call.enter_ns,
                    };
                    self.open.insert(key, connection);
                }
            }
            CallKind::Socket if call.token.outcome.is_error() => {
                self.open.remove(&key);
            }
            CallKind::Read | CallKind::Write if call.token.outcome == Outcome::Ok => {
                let at_ns = call.end_ns();
                if self.open.get(&key).is_some_and(|c| c.opened_ns <= at_ns) {
                    self.open.remove(&key);
                }
                self.ended.retain(|e| {
                    !(e.pid == scene.pid
                        && e.fd == call.fd
                        && (e.connection.opened_ns..=e.closed_ns).contains(&at_ns))
                });
            }
            CallKind::Close => {
                let closed = self
                    .open
                    .get(&key)
                    .is_some_and(|c| c.opened_ns <= call.enter_ns);
                if let Some(connection) = closed.then(|| self.open.remove(&key)).flatten() {
                    if self.ended.len() >= MAX_CONNECTIONS {
                        self.ended.pop_front();
                    }
                    self.ended.push_back(Ended {
                        pid: scene.pid,
                        fd: call.fd,
                        connection,
                        closed_ns: call.enter_ns,
                    });
                }
            }
            _ => {}
        }
    }

    /// Connections that are still asked for: whom, and where.
    pub(crate) fn asked_for(&self) -> impl Iterator<Item = (&str, Place)> + '_ {
        self.open.iter().filter_map(|((pid, fd), connection)| {
            let place = Place {
                container: connection.container,
                pid: *pid,
                tid: connection.tid,
                fd: *fd,
                start_ns: connection.opened_ns,
                end_ns: connection.opened_ns,
            };
            Some((connection.peer.as_deref()?, place))
        })
    }

    /// What is certain by `now`. `exchanges` gives the normal exchanges of a container with a
    /// peer: connections to peers that never answer normally (probes, losers of a race between
    /// addresses) do not count. Nor do those to a peer that answers others (`last_answer`).
    pub(crate) fn settle(
        &mut self,
        now: Nanos,
        exchanges: impl Fn(ContainerIndex, &str) -> u64,
        last_answer: impl Fn(ContainerIndex, &str) -> Nanos,
    ) -> Vec<Signal> {
        let mut signals = Vec::new();
        while let Some(ended) = self.ended.front() {
            if now < ended.closed_ns.saturating_add(SETTLE) {
                break;
            }
            let Some(ended) = self.ended.pop_front() else {
                break;
            };
            let Some(peer) = ended.connection.peer.clone() else {
                continue;
            };
            let container = ended.connection.container;
            let answers = last_answer(container, &peer) > ended.connection.opened_ns;
            if !answers && exchanges(container, &peer) >= USED {
                signals.push(self.failed(&ended, peer));
            }
        }
        signals
    }

    fn failed(&mut self, ended: &Ended, peer: String) -> Signal {
        let container = ended.connection.container;
        let quick = ended.closed_ns.saturating_sub(ended.connection.opened_ns) < QUICK;
        if self.failures.len() >= MAX_CONNECTIONS {
            self.failures.pop_first();
        }
        let (last, count) = self
            .failures
            .entry((container, peer.clone(), quick))
            .or_default();
        if ended.closed_ns.saturating_sub(*last) > REPEAT_WITHIN {
            *count = 0;
        }
        *last = ended.closed_ns;
        *count += 1;
        let place = Place {
            container,
            pid: ended.pid,
            tid: ended.connection.tid,
            fd: ended.fd,
            start_ns: ended.connection.opened_ns,
            end_ns: ended.closed_ns,
        };
        let kind = Kind::ConnectFailed {
            peer: peer.clone(),
            quick,
        };
        let signal = Signal::at(place, kind, "connect:abandoned").about(Some(peer));
        match *count >= 2 {
            true => signal.standing(Standing::Opens, 8.0 + (*count as f64).ln().min(3.0)),
            false => signal,
        }
    }

    pub(crate) fn forget(&mut self, pid: u32) {
        self.open.retain(|(p, _), _| *p != pid);
    }
}
