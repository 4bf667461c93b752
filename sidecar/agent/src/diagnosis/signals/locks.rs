//! Requests that are held up by locks, and threads that wait for each other.
//!
//! A thread that has read a request of a client and has not answered serves it. What it waits in
//! `futex` meanwhile, it waits for other threads of its program; what it waits there between
//! requests, it is idle. Threads that turn to other work meanwhile (event loops) say nothing.

use std::collections::{BTreeMap, BTreeSet};

use stethos_patterns::names::CallKind;
use stethos_patterns::{Outcome, Role, WindowCall};

use crate::diagnosis::reference::Reference;
use crate::diagnosis::signal::{Kind, Place, Signal, Standing};
use crate::diagnosis::signals::exchanges::duration;
use crate::diagnosis::signals::stuck::stuck_after;
use crate::diagnosis::signals::{MAX_KEYS, RESTLESS, Scene};
use crate::record::{ContainerIndex, Nanos, ThreadState, ThreadsSnapshot};
use crate::sequential::{SECOND, ShareTest};

/// Share of requests held up by locks that is tested against, at least: a lock is often one of a
/// few kinds of requests.
const HELD_UP: f64 = 0.05;
const LASTS: Nanos = 4 * SECOND;
/// More load than this makes locks busier in normal work too.
const BUSY: f64 = 3.0;
/// Evidence of threads that wait for longer than any request took, nats.
const STUCK: f64 = 10.0;
/// Where locks hold up requests for a while, they have to be this many times longer.
const CONTENDED: u64 = 4;
/// So many requests have to have been answered by the thread that read them, for each one that was
/// not.
const ANSWERED: u64 = 20;

#[derive(Debug, Default)]
pub(crate) struct Locks {
    serving: BTreeMap<(u32, u32), Serving>,
    containers: BTreeMap<ContainerIndex, Requests>,
}

#[derive(Debug)]
struct Serving {
    fd: i32,
    since_ns: Nanos,
    /// In `futex`.
    held_up_ns: u64,
    /// Something was asked for and has not come.
    asks: bool,
}

#[derive(Debug)]
struct Requests {
    held_up: ShareTest,
    /// Share of requests that were held up while learning.
    normal: Option<f64>,
    answered: u64,
    left: u64,
}

/// How a thread that serves a request stands.
enum Stands {
    Works,
    /// In `futex`, for too long.
    Locked(Box<Signal>),
    /// In another call, for long.
    Elsewhere,
}

impl Locks {
    /// Judges one finished call.
    pub(crate) fn judge(&mut self, scene: &Scene<'_>, call: &WindowCall) -> Option<Signal> {
        if scene.reduced {
            return None;
        }
        let key = (scene.pid, scene.tid);
        let kind = scene.table.kind(call.token.call);
        let moved = call.token.outcome == Outcome::Ok && call.ret > 0;
        match (kind, call.role) {
            (CallKind::Read, Role::Server) if moved => self.begin(scene, call),
            (CallKind::Write, Role::Server) if moved => {
                let serving = self.serving.get(&key).filter(|s| s.fd == call.fd)?;
                let (since_ns, held_up_ns) = (serving.since_ns, serving.held_up_ns);
                self.serving.remove(&key);
                return self.answer(scene, call, since_ns, held_up_ns);
            }
            (CallKind::Read | CallKind::Write, Role::Client) => {
                if let Some(serving) = self.serving.get_mut(&key) {
                    serving.asks = kind == CallKind::Write;
                }
            }
            (CallKind::Close, Role::Server)
                if self.serving.get(&key).is_some_and(|s| s.fd == call.fd) =>
            {
                self.serving.remove(&key);
            }
            (CallKind::Wait, _) => match scene.table.name(call.token.call) {
                name if name.starts_with("futex") => {
                    // Waits that run out look for a turn again and again, as for an interpreter's lock.
                    let in_time = !call.token.outcome.is_error();
                    if let Some(serving) = self.serving.get_mut(&key).filter(|_| in_time) {
                        serving.held_up_ns = serving.held_up_ns.saturating_add(call.duration_ns);
                    }
                }
                name if name.starts_with("epoll") => {
                    self.serving.remove(&key);
                }
                _ => {}
            },
            _ => {}
        }
        None
    }

    fn begin(&mut self, scene: &Scene<'_>, call: &WindowCall) {
        let key = (scene.pid, scene.tid);
        if self.serving.len() >= MAX_KEYS && !self.serving.contains_key(&key) {
            self.serving.pop_first();
        }
        let serving = Serving {
            fd: call.fd,
            since_ns: call.end_ns(),
            held_up_ns: 0,
            asks: false,
        };
        let before = self.serving.insert(key, serving);
        if before.is_some_and(|before| before.fd != call.fd || before.held_up_ns > 0) {
            self.requests(scene.container).left += 1;
        }
    }

    fn requests(&mut self, container: ContainerIndex) -> &mut Requests {
        self.containers.entry(container).or_insert(Requests {
            held_up: ShareTest::new(),
            normal: None,
            answered: 0,
            left: 0,
        })
    }

    fn answer(
        &mut self,
        scene: &Scene<'_>,
        call: &WindowCall,
        since_ns: Nanos,
        held_up_ns: u64,
    ) -> Option<Signal> {
        let requests = self.requests(scene.container);
        requests.answered += 1;
        let model = scene.model.filter(|_| scene.load < BUSY)?;
        let normal = model.service_limit()?;
        let took = call.enter_ns.saturating_sub(since_ns);
        let hit = took > normal.ceiling_ns && held_up_ns >= took / 2;
        let p0 = *requests
            .normal
            .get_or_insert_with(|| model.held_up_share(normal.ceiling_ns / 2).min(normal.p0));
        let p1 = (5.0 * p0).max(HELD_UP);
        let evidence = requests.held_up.observe(call.enter_ns, hit, p0, p1);
        if !hit {
            return None;
        }
        let run = requests.held_up.run()?;
        let lasted = run.hits >= 3 && run.last_ns.saturating_sub(run.first_ns) >= LASTS;
        let place = Place {
            start_ns: since_ns,
            end_ns: call.enter_ns,
            ..scene.place(call)
        };
        let signal = Signal::at(place, Kind::HeldUp, "futex:held_up").against(duration(&normal));
        Some(match evidence >= scene.limit && lasted {
            true => signal.standing(Standing::Opens, evidence.min(12.0)),
            false => signal,
        })
    }

    /// The threads of a snapshot that stand in `futex` in the middle of a request, for longer than
    /// any request took, while none of their process works on one.
    pub(crate) fn stuck<'a>(
        &self,
        snapshot: &ThreadsSnapshot,
        model: impl Fn(ContainerIndex) -> Option<&'a Reference>,
    ) -> Vec<Signal> {
        let (mut stuck, mut elsewhere) = (Vec::new(), BTreeSet::new());
        for thread in &snapshot.threads {
            let Some(model) = model(thread.container) else {
                continue;
            };
            match self.stands(thread, model, snapshot.at_ns) {
                Stands::Locked(signal) => stuck.push(*signal),
                Stands::Elsewhere => _ = elsewhere.insert(thread.pid),
                Stands::Works => {}
            }
        }
        stuck.retain(|signal| !elsewhere.contains(&signal.pid));
        stuck
    }

    fn stands(&self, thread: &ThreadState, model: &Reference, now: Nanos) -> Stands {
        let key = (thread.pid, thread.tid);
        let (Some(inside), Some(serving)) = (thread.inside, self.serving.get(&key)) else {
            return Stands::Works;
        };
        let (Some(normal), Some(requests)) = (
            model.service_limit(),
            self.containers.get(&thread.container),
        ) else {
            return Stands::Works;
        };
        let for_ns = now.saturating_sub(inside.enter_ns.max(serving.since_ns));
        let longest = match requests.held_up.evidence() > RESTLESS {
            true => stuck_after(&normal).saturating_mul(CONTENDED),
            false => stuck_after(&normal),
        };
        let locked = model.table.name(inside.nr).starts_with("futex") && !serving.asks;
        if !locked && for_ns >= longest / 2 {
            return Stands::Elsewhere;
        }
        let answers = requests.answered >= ANSWERED.saturating_mul(requests.left.max(1));
        if !locked || for_ns < longest || !answers {
            return Stands::Works;
        }
        let place = Place {
            container: thread.container,
            pid: thread.pid,
            tid: thread.tid,
            fd: -1,
            start_ns: inside.enter_ns.max(serving.since_ns),
            end_ns: now,
        };
        let kind = Kind::Deadlock { pid: thread.pid };
        let signal = Signal::at(place, kind, "futex:no_return").against(duration(&normal));
        Stands::Locked(Box::new(signal.standing(Standing::Opens, STUCK)))
    }

    pub(crate) fn restless(&self) -> bool {
        let mut containers = self.containers.values();
        containers.any(|requests| requests.held_up.evidence() > RESTLESS)
    }

    pub(crate) fn forget(&mut self, pid: u32) {
        self.serving.retain(|(p, _), _| *p != pid);
    }

    pub(crate) fn reset(&mut self, container: ContainerIndex) {
        self.containers.remove(&container);
    }

    /// What follows was not seen whole.
    pub(crate) fn rest(&mut self) {
        self.serving.clear();
    }
}
