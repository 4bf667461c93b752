//! Answers that take longer than they ever did, per peer; and this container's own answers.

use std::collections::BTreeMap;

use stethos_patterns::descriptors::Exchange;
use stethos_patterns::{Outcome, Role};

use crate::diagnosis::pod::Pod;
use crate::diagnosis::reference::{Limit, Reference};
use crate::diagnosis::signal::{Cause, Kind, Normal, Place, Signal, Standing, is_resolver};
use crate::diagnosis::signals::{MAX_KEYS, RESTLESS};
use crate::record::{ContainerIndex, Nanos};
use crate::sequential::{SECOND, ShareTest};

/// Share of slow exchanges that is tested against: nearly all.
const SLOW_SHARE: f64 = 0.8;
const SLOW_LASTS: Nanos = 2 * SECOND;
/// When unrelated work is slow as well, the machine rather than the peer may be.
const SLOW_EVERYWHERE_LASTS: Nanos = 5 * SECOND;
const SERVICE_LASTS: Nanos = 10 * SECOND;
const UNANSWERED_WITHIN: Nanos = 30 * SECOND;
/// Normal exchanges with a peer from which on a missing answer says something.
const ANSWERS: u64 = 20;

type Key = (ContainerIndex, String);

#[derive(Debug, Default)]
pub(crate) struct Exchanges {
    clients: BTreeMap<Key, ShareTest>,
    services: BTreeMap<ContainerIndex, ShareTest>,
    /// Last answer of a peer: at the latest, and at least.
    answered: BTreeMap<Key, (Nanos, Nanos)>,
    unanswered: BTreeMap<(ContainerIndex, Kind), (Nanos, u64)>,
}

/// What is known beside an exchange.
#[derive(Clone, Copy)]
pub(crate) struct Beside<'a> {
    pub(crate) model: &'a Reference,
    pub(crate) pod: &'a Pod,
    /// None while calls are only counted and the test of slow ones rests.
    pub(crate) limit: Option<f64>,
    /// Its socket said that no answer would come.
    pub(crate) in_vain: bool,
}

/// What an exchange says.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    /// The answer took no longer than it may: what ends an incident.
    pub(crate) answered: bool,
    pub(crate) signal: Option<Signal>,
}

impl From<Option<Signal>> for Judged {
    fn from(signal: Option<Signal>) -> Self {
        Judged {
            answered: false,
            signal,
        }
    }
}

impl Exchanges {
    pub(crate) fn judge(
        &mut self,
        container: ContainerIndex,
        exchange: &Exchange,
        peer: &str,
        beside: &Beside<'_>,
    ) -> Judged {
        let Beside {
            model,
            pod,
            limit,
            in_vain,
        } = *beside;
        let place = place_of(container, exchange);
        match (exchange.role, exchange.failed, limit) {
            (Role::Client, Some(Outcome::Ok), _) => {
                let kind = Kind::ClosedEarly {
                    peer: peer.to_owned(),
                };
                self.judge_unanswered(place, kind, "exchange:closed", model, false)
                    .into()
            }
            (Role::Client, Some(Outcome::NoReturn), _) => {
                let waited = place.end_ns.saturating_sub(place.start_ns);
                let patience = model.patience(peer).map(|n| gave_up_after(&n));
                let patience = patience.filter(|patience| in_vain || waited >= *patience);
                if patience.is_none() {
                    return Judged::default();
                }
                // Who answers others meanwhile does not hang.
                let half_ns = place.start_ns / 2 + place.end_ns / 2;
                let peer_of = || peer.to_owned();
                let kind = match self.last_answer(container, peer) > half_ns {
                    true => Kind::SlowExchange { peer: peer_of() },
                    false => Kind::NoAnswer { peer: peer_of() },
                };
                self.judge_unanswered(place, kind, "exchange:gave_up", model, in_vain)
                    .into()
            }
            (Role::Client, None, Some(limit)) => self.judge_answer(place, peer, model, pod, limit),
            (Role::Client, None, None) => {
                self.answered(container, peer, place.end_ns);
                Judged::default()
            }
            (Role::Server, None, Some(limit)) => self.judge_service(place, model, limit),
            _ => Judged::default(),
        }
    }

    fn judge_answer(
        &mut self,
        place: Place,
        peer: &str,
        model: &Reference,
        pod: &Pod,
        limit: f64,
    ) -> Judged {
        let key = (place.container, peer.to_owned());
        if self.clients.len() >= MAX_KEYS && !self.clients.contains_key(&key) {
            return Judged::default();
        }
        self.answered(place.container, peer, place.end_ns);
        let Some(normal) = model.exchange_limit(peer) else {
            return Judged {
                answered: is_resolver(peer),
                signal: None,
            };
        };
        let hit = place.end_ns.saturating_sub(place.start_ns) > normal.ceiling_ns;
        let test = self.clients.entry(key).or_insert_with(ShareTest::new);
        let evidence = test.observe(place.end_ns, hit, normal.p0, SLOW_SHARE);
        if !hit {
            return Judged {
                answered: true,
                signal: None,
            };
        }
        let run = test.run();
        let lasts = if self.others_slow(place.container, peer, pod) {
            SLOW_EVERYWHERE_LASTS
        } else {
            SLOW_LASTS
        };
        let lasted = run.is_some_and(|r| r.hits >= 3 && r.last_ns - r.first_ns >= lasts);
        let kind = Kind::SlowExchange {
            peer: peer.to_owned(),
        };
        let signal = Signal::at(place, kind, "exchange:slow")
            .about(Some(peer.to_owned()))
            .against(duration(&normal));
        Judged::from(Some(match evidence >= limit && lasted {
            true => signal.standing(Standing::Opens, evidence.min(12.0)),
            false => signal,
        }))
    }

    /// True when an exchange that neither causes nor suffers from this one is slow now.
    fn others_slow(&self, container: ContainerIndex, peer: &str, pod: &Pod) -> bool {
        let callee = pod.callee(peer);
        self.clients.iter().any(|((other, other_peer), test)| {
            let other_callee = pod.callee(other_peer);
            let same = other_peer == peer || (callee.is_some() && other_callee == callee);
            let related = same || callee == Some(*other) || other_callee == Some(container);
            !related && test.evidence() > 4.0
        })
    }

    /// An exchange that ended without an answer.
    fn judge_unanswered(
        &mut self,
        place: Place,
        kind: Kind,
        token: &str,
        model: &Reference,
        in_vain: bool,
    ) -> Option<Signal> {
        let Cause::Peer(peer) = kind.cause() else {
            return None;
        };
        if model.exchanges(&peer) < ANSWERS && !is_resolver(&peer) {
            return None;
        }
        if self.unanswered.len() >= MAX_KEYS {
            self.unanswered.pop_first();
        }
        let (last, count) = self
            .unanswered
            .entry((place.container, kind.clone()))
            .or_default();
        if place.end_ns.saturating_sub(*last) > UNANSWERED_WITHIN {
            *count = 0;
        }
        *last = place.end_ns;
        *count += 1;
        // Two where normal work has none, well above the usual number where it has some.
        let usual = model.unanswered_in(&peer, UNANSWERED_WITHIN);
        let needed = match (in_vain, usual > 0.0) {
            (_, true) => 4.0 + 5.0 * usual,
            (true, false) => 1.0,
            (false, false) => 2.0,
        };
        let normal = model.patience(&peer);
        let mut signal = Signal::at(place, kind, token).about(Some(peer));
        if let Some(normal) = normal {
            signal = signal.against(duration(&normal));
        }
        Some(match *count as f64 >= needed {
            true => signal.standing(Standing::Opens, 9.0),
            false => signal,
        })
    }

    fn judge_service(&mut self, place: Place, model: &Reference, limit: f64) -> Judged {
        let Some(normal) = model.service_limit() else {
            return Judged::default();
        };
        let hit = place.end_ns.saturating_sub(place.start_ns) > normal.ceiling_ns;
        let test = self
            .services
            .entry(place.container)
            .or_insert_with(ShareTest::new);
        let evidence = test.observe(place.end_ns, hit, normal.p0, SLOW_SHARE);
        if !hit || evidence < limit {
            return Judged {
                answered: !hit,
                signal: None,
            };
        }
        let lasted = test
            .run()
            .is_some_and(|r| r.last_ns - r.first_ns >= SERVICE_LASTS);
        let signal =
            Signal::at(place, Kind::SlowService, "service:slow").against(duration(&normal));
        let standing = match lasted {
            true => Standing::Opens,
            false => Standing::Symptom,
        };
        Some(signal.standing(standing, evidence.min(6.0))).into()
    }

    /// A peer answered.
    pub(crate) fn answered(&mut self, container: ContainerIndex, peer: &str, at_ns: Nanos) {
        self.answered_between(container, peer, (at_ns, at_ns));
    }

    /// A peer answered at some time between these.
    pub(crate) fn answered_between(
        &mut self,
        container: ContainerIndex,
        peer: &str,
        (from_ns, to_ns): (Nanos, Nanos),
    ) {
        let key = (container, peer.to_owned());
        if self.answered.len() >= MAX_KEYS && !self.answered.contains_key(&key) {
            self.answered.pop_first();
        }
        let (latest, least) = self.answered.entry(key).or_default();
        *latest = (*latest).max(to_ns);
        *least = (*least).max(from_ns);
    }

    pub(crate) fn restless(&self) -> bool {
        let mut tests = self.clients.values().chain(self.services.values());
        tests.any(|test| test.evidence() > RESTLESS)
    }

    pub(crate) fn last_answer(&self, container: ContainerIndex, peer: &str) -> Nanos {
        self.last(container, peer).0
    }

    /// The last answer, no later than it came: when one of those that were only counted came is not known
    /// to the second.
    pub(crate) fn surely_answered(&self, container: ContainerIndex, peer: &str) -> Nanos {
        self.last(container, peer).1
    }

    fn last(&self, container: ContainerIndex, peer: &str) -> (Nanos, Nanos) {
        let last = self.answered.get(&(container, peer.to_owned()));
        last.copied().unwrap_or_default()
    }

    /// Forgets what has been counted in a container whose incident is over.
    pub(crate) fn reset(&mut self, container: ContainerIndex) {
        self.clients.retain(|(c, _), _| *c != container);
        self.services.remove(&container);
    }
}

/// A client that waited this long before it closed its end had a time-out.
fn gave_up_after(normal: &Limit) -> Nanos {
    normal
        .ceiling_ns
        .max(normal.highest_ns)
        .saturating_mul(3)
        .max(SECOND / 5)
}

pub(crate) fn duration(normal: &Limit) -> Normal {
    Normal::Duration {
        median_ns: normal.median_ns,
        limit_ns: normal.ceiling_ns,
    }
}

pub(crate) fn place_of(container: ContainerIndex, exchange: &Exchange) -> Place {
    Place {
        container,
        pid: exchange.pid,
        tid: exchange.tid,
        fd: exchange.fd,
        start_ns: exchange.sent_ns,
        end_ns: exchange.received_ns.max(exchange.sent_ns),
    }
}
