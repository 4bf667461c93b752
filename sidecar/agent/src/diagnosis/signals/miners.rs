//! Programs that were started while everything was watched, compute all the time, and keep one
//! connection on which little moves to somebody whom learning never saw.

use std::collections::BTreeMap;

use stethos_patterns::names::CallKind;
use stethos_patterns::{Outcome, Role, WindowCall};

use crate::diagnosis::errno::EINPROGRESS;
use crate::diagnosis::pod::Pod;
use crate::diagnosis::reference::Reference;
use crate::diagnosis::signal::{Kind, Place, Signal, Standing};
use crate::diagnosis::signals::{MAX_KEYS, RESTLESS, Scene};
use crate::record::{ContainerIndex, Lifecycle, LifecycleEvent, Nanos, RunState, ThreadsSnapshot};
use crate::sequential::{SECOND, ShareTest};

/// Share of snapshots in which a thread of the process runs: of others, and of one that computes.
const RUNS: (f64, f64) = (0.3, 0.95);
const LASTS: Nanos = 8 * SECOND;
/// The same where the program as such is unexpected, and evidence enough then, nats.
const LASTS_UNEXPECTED: Nanos = 3 * SECOND;
const UNEXPECTED: f64 = RESTLESS;
/// How long a program may take until it is connected, and then until it is sure to be a miner.
const CONNECTS: Nanos = 3 * SECOND / 2;
const TURNS_OUT: Nanos = 9 * SECOND / 2;
/// Transfers a second on the connection, at most.
const MOVES: f64 = 2.0;
/// Share of its calls that are work on files and connections, at most; few a second are always
/// allowed.
const WORKS: f64 = 0.1;
const FEW: f64 = 20.0;

#[derive(Debug, Default)]
pub(crate) struct Miners {
    started: BTreeMap<u32, Started>,
}

#[derive(Debug)]
struct Started {
    container: ContainerIndex,
    executable: String,
    since_ns: Nanos,
    calls: u64,
    /// Those among them that are work on files and connections.
    works: u64,
    connection: Option<Connection>,
    computes: ShareTest,
    /// Snapshots that the process is in, and those in which it runs.
    snapshots: u32,
    running: u32,
}

#[derive(Debug)]
struct Connection {
    fd: i32,
    peer: Option<String>,
    since_ns: Nanos,
    moved: u64,
}

impl Miners {
    pub(crate) fn on_lifecycle(&mut self, record: &Lifecycle, pod: &Pod) {
        let (pid, executable) = match &record.event {
            LifecycleEvent::Exec { executable } => (record.pid, executable.clone()),
            LifecycleEvent::Fork { child_pid, .. } if *child_pid != record.pid => {
                let parent = pod.process(record.pid);
                (
                    *child_pid,
                    parent.map_or(String::new(), |p| p.executable.clone()),
                )
            }
            LifecycleEvent::Exit {
                group_dead: true, ..
            } => {
                self.started.remove(&record.pid);
                return;
            }
            _ => return,
        };
        if self.started.len() >= MAX_KEYS && !self.started.contains_key(&pid) {
            return;
        }
        let started = Started {
            container: record.container,
            executable,
            since_ns: record.at_ns,
            calls: 0,
            works: 0,
            connection: None,
            computes: ShareTest::new(),
            snapshots: 0,
            running: 0,
        };
        self.started.insert(pid, started);
    }

    pub(crate) fn observe(&mut self, scene: &Scene<'_>, call: &WindowCall) {
        let Some(started) = self.started.get_mut(&scene.pid) else {
            return;
        };
        if matches!(call.role, Role::Server | Role::Listener) {
            self.started.remove(&scene.pid);
            return;
        }
        let kind = scene.table.kind(call.token.call);
        let works = matches!(
            kind,
            CallKind::Read | CallKind::Write | CallKind::Open | CallKind::Sync | CallKind::File
        );
        started.calls += 1;
        started.works += u64::from(works);
        let own = |connection: &Connection| connection.fd == call.fd;
        match kind {
            CallKind::Connect
                if matches!(
                    call.token.outcome,
                    Outcome::Ok | Outcome::Errno(EINPROGRESS)
                ) =>
            {
                started.connection = Some(Connection {
                    fd: call.fd,
                    peer: scene.peer(call),
                    since_ns: call.end_ns(),
                    moved: 0,
                });
            }
            CallKind::Close if started.connection.as_ref().is_some_and(own) => {
                started.connection = None;
            }
            CallKind::Read | CallKind::Write => {
                if let Some(connection) = started.connection.as_mut().filter(|c| own(c)) {
                    connection.moved += 1;
                }
            }
            _ => {}
        }
    }

    pub(crate) fn judge<'a>(
        &mut self,
        snapshot: &ThreadsSnapshot,
        model: impl Fn(ContainerIndex) -> Option<&'a Reference>,
        is_unexpected: impl Fn(u32) -> bool,
        limit: f64,
    ) -> Vec<Signal> {
        let mut running: BTreeMap<u32, bool> = BTreeMap::new();
        for thread in &snapshot.threads {
            *running.entry(thread.pid).or_default() |= thread.state == RunState::Running;
        }
        let started = self.started.iter_mut();
        started
            .filter_map(|(pid, started)| {
                let runs = *running.get(pid)?;
                let needed = match is_unexpected(*pid) {
                    true => (LASTS_UNEXPECTED, limit.min(UNEXPECTED)),
                    false => (LASTS, limit),
                };
                started.judge(
                    *pid,
                    runs,
                    snapshot.at_ns,
                    model(started.container)?,
                    needed,
                )
            })
            .collect()
    }

    /// A program that was started a short time ago has computed ever since, and is connected or may
    /// yet be.
    pub(crate) fn may_mine(&self, pid: u32, now: Nanos) -> bool {
        self.started.get(&pid).is_some_and(|started| {
            let time = match started.connection {
                Some(_) => TURNS_OUT,
                None => CONNECTS,
            };
            let computes = started.running * 4 >= started.snapshots * 3;
            now.saturating_sub(started.since_ns) < time && computes && started.snapshots > 0
        })
    }
}

impl Started {
    fn judge(
        &mut self,
        pid: u32,
        runs: bool,
        now: Nanos,
        model: &Reference,
        (lasts, limit): (Nanos, f64),
    ) -> Option<Signal> {
        let (p0, p1) = RUNS;
        self.snapshots += 1;
        self.running += u32::from(runs);
        let evidence = self.computes.observe(now, runs, p0, p1);
        let run = self.computes.run()?;
        let seconds = |since_ns: Nanos| now.saturating_sub(since_ns) as f64 / SECOND as f64;
        let connection = self.connection.as_ref()?;
        let lasted = now.saturating_sub(run.first_ns.max(connection.since_ns)) >= lasts;
        let still = connection.moved as f64 <= MOVES * seconds(connection.since_ns);
        let few = self.works as f64 <= FEW * seconds(self.since_ns);
        let computes = few || self.works as f64 <= WORKS * self.calls as f64;
        let peer = connection.peer.as_deref()?;
        if evidence < limit || !lasted || !still || !computes || model.knows_peer(peer) {
            return None;
        }
        let place = Place {
            container: self.container,
            pid,
            tid: pid,
            fd: connection.fd,
            start_ns: run.first_ns.max(connection.since_ns),
            end_ns: now,
        };
        let kind = Kind::Mines {
            executable: self.executable.clone(),
        };
        let signal = Signal::at(place, kind, "process:computes").about(Some(peer.to_owned()));
        Some(signal.standing(Standing::Opens, 12.0))
    }
}
