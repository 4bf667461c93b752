//! Connections that are closed right after an answer, where learning kept them for many.
//!
//! A pool that is gone, or keep-alive that was turned off, changes no call: only how many exchanges a
//! connection serves. An exchange counts when its client closes the connection within [`PROMPT`] of the
//! answer; what is closed later was idle, which load decides. Learning made so many connections for so many
//! exchanges: no larger share can have been followed by a close.

use std::collections::{BTreeMap, VecDeque};

use stethos_patterns::Role;
use stethos_patterns::descriptors::Exchange;

use super::resources::Judged;
use super::{MAX_KEYS, RESTLESS};
use crate::diagnosis::pod::Pod;
use crate::diagnosis::reference::Reference;
use crate::diagnosis::signal::{Kind, Normal, Place, Signal, Standing};
use crate::record::{ContainerIndex, Nanos};
use crate::sequential::{SECOND, ShareTest};

const PROMPT: Nanos = SECOND / 10;
/// Share of exchanges that is tested against.
const UNKEPT: f64 = 0.8;
const LASTS: Nanos = 4 * SECOND;
const CLOSED: u64 = 20;
/// Answers and closes of different threads are in order once they are this old.
const IN_ORDER: Nanos = SECOND / 2;
/// Connections with an answer that are followed at a time, and what happened on one that was not looked at yet.
const MAX_OPEN: usize = 4096;
const MAX_EVENTS: usize = 512;

#[derive(Debug, Default)]
pub(crate) struct Unkept {
    /// By process and descriptor.
    connections: BTreeMap<(u32, i32), Connection>,
    tests: BTreeMap<(ContainerIndex, String), ShareTest>,
}

#[derive(Debug)]
struct Connection {
    container: ContainerIndex,
    /// In order of arrival.
    events: VecDeque<(Nanos, Event)>,
    /// The last answer that was looked at, unless the connection ended since.
    answered: Option<(Nanos, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Answered(String),
    Closed,
}

/// An exchange that is known to have ended its connection, or not.
#[derive(Debug)]
struct Ended {
    place: Place,
    peer: String,
    /// The connection was closed right after it.
    at_once: bool,
}

impl Unkept {
    /// An exchange of a container with this model ended.
    pub(crate) fn answered(
        &mut self,
        container: ContainerIndex,
        exchange: &Exchange,
        peer: &str,
        model: &Reference,
    ) {
        let answered = exchange.role == Role::Client && exchange.failed.is_none();
        if !answered || model.connections_made(peer).is_none() {
            return;
        }
        let key = (exchange.pid, exchange.fd);
        if self.connections.len() >= MAX_OPEN && !self.connections.contains_key(&key) {
            self.connections.pop_first();
        }
        let connection = self.connections.entry(key).or_insert_with(|| Connection {
            container,
            events: VecDeque::new(),
            answered: None,
        });
        connection.push(exchange.received_ns, Event::Answered(peer.to_owned()));
    }

    /// A process closed a descriptor.
    pub(crate) fn closed(&mut self, pid: u32, fd: i32, at_ns: Nanos) {
        if let Some(connection) = self.connections.get_mut(&(pid, fd)) {
            connection.push(at_ns, Event::Closed);
        }
    }

    /// Looks at what has happened, but for the last half of a second.
    pub(crate) fn settle<'a>(
        &mut self,
        now: Nanos,
        model: impl Fn(ContainerIndex) -> Option<&'a Reference>,
        pod: &Pod,
        limit: f64,
    ) -> Vec<(ContainerIndex, Judged)> {
        let until_ns = now.saturating_sub(IN_ORDER);
        let mut ended = Vec::new();
        for (key, connection) in &mut self.connections {
            connection.settle(*key, until_ns, &mut ended);
        }
        self.connections
            .retain(|_, c| c.answered.is_some() || !c.events.is_empty());
        ended.sort_by_key(|one: &Ended| one.place.end_ns);
        // Whoever is there for one exchange only makes a connection for it.
        ended.retain(|one| !pod.is_starting(one.place.pid, one.place.end_ns));
        let judged = ended.into_iter().filter_map(|one| {
            let container = one.place.container;
            Some((container, self.judge(&one, model(container)?, limit)))
        });
        judged.collect()
    }

    fn judge(&mut self, ended: &Ended, model: &Reference, limit: f64) -> Judged {
        let Ended { place, peer, .. } = ended;
        let Some(learned) = model.connections_made(peer) else {
            return Judged::Unclear;
        };
        let key = (place.container, peer.clone());
        if self.tests.len() >= MAX_KEYS && !self.tests.contains_key(&key) {
            return Judged::Unclear;
        }
        let test = self.tests.entry(key).or_insert_with(ShareTest::new);
        let evidence = test.observe(place.end_ns, ended.at_once, 2.0 * learned, UNKEPT);
        let kind = Kind::Unkept { peer: peer.clone() };
        let Some(run) = test.run().filter(|_| ended.at_once) else {
            return Judged::Normal(kind);
        };
        let lasts = run.last_ns.saturating_sub(run.first_ns) >= LASTS && run.hits >= CLOSED;
        if evidence < limit || !lasts {
            return Judged::Unclear;
        }
        let normal = Normal::Share {
            calibrated: learned,
            now: run.share(),
        };
        let place = Place {
            start_ns: run.first_ns,
            ..*place
        };
        let signal = Signal::at(place, kind, "connection:not_kept").about(Some(peer.clone()));
        let signal = signal.against(normal);
        Judged::Signal(signal.standing(Standing::Opens, evidence.min(12.0)))
    }

    pub(crate) fn restless(&self) -> bool {
        let mut tests = self.tests.values();
        tests.any(|test| test.evidence() > RESTLESS)
    }

    pub(crate) fn forget(&mut self, pid: u32) {
        self.connections.retain(|(owner, _), _| *owner != pid);
    }

    /// Calls are only counted now: what is closed is not seen.
    pub(crate) fn rest(&mut self) {
        self.connections.clear();
        self.tests.clear();
    }

    pub(crate) fn reset(&mut self, container: ContainerIndex) {
        self.tests.retain(|(c, _), _| *c != container);
    }
}

impl Connection {
    fn push(&mut self, at_ns: Nanos, event: Event) {
        if self.events.len() >= MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back((at_ns, event));
    }

    fn settle(&mut self, (pid, fd): (u32, i32), until_ns: Nanos, ended: &mut Vec<Ended>) {
        self.events.make_contiguous().sort();
        let container = self.container;
        let mut end = |(start_ns, peer): (Nanos, String), end_ns, at_once| {
            let place = Place {
                container,
                pid,
                tid: pid,
                fd,
                start_ns,
                end_ns,
            };
            ended.push(Ended {
                place,
                peer,
                at_once,
            });
        };
        while let Some((at_ns, event)) = self.events.pop_front() {
            if at_ns > until_ns {
                self.events.push_front((at_ns, event));
                break;
            }
            let before = self.answered.take();
            match event {
                Event::Answered(peer) => {
                    if let Some(before) = before.filter(|(_, known)| *known == peer) {
                        end(before, at_ns, false);
                    }
                    self.answered = Some((at_ns, peer));
                }
                Event::Closed => {
                    if let Some(before) = before {
                        let at_once = at_ns.saturating_sub(before.0) <= PROMPT;
                        end(before, at_ns, at_once);
                    }
                }
            }
        }
    }
}
