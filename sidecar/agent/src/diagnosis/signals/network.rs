//! What the network between this pod and its peers does, from counters and sockets.
//!
//! The namespace's counters say that segments are lost or held back, but not whose. Peers whose
//! exchanges are late meanwhile and which still answer are taken for the affected ones; so is a peer
//! whose own sockets sent again what was late, however little that is among all segments. What a
//! request waits for is said by its own socket, which diagnosis asks for once it waits too long:
//!
//! | the socket of a request without an answer | says |
//! | --- | --- |
//! | everything acknowledged | the peer's kernel lives, the process behind it does not answer |
//! | sent again and again, nothing heard, messages that there is no way | no route |
//! | sent again and again, nothing heard | a black hole, unless the peer answers others |
//! | not sent yet, or on the way for much longer than it takes, without loss | a narrow way |

mod rates;
mod stand;

use std::collections::BTreeMap;

use stethos_patterns::Outcome;
use stethos_patterns::descriptors::Exchange;

use self::rates::Rates;
use self::stand::{Seen, Stand};
use crate::diagnosis::reference::{Limit, Reference};
use crate::diagnosis::signal::{Kind, Place, Signal, Standing, is_resolver};
use crate::diagnosis::signals::MAX_KEYS;
use crate::diagnosis::signals::exchanges::duration;
use crate::record::{ContainerIndex, Nanos, NetworkState, SocketState};
use crate::sequential::SECOND;

const MS: Nanos = SECOND / 1000;
/// No retransmission timer is shorter: an exchange that lost a segment takes longer.
const RETRANSMISSION: Nanos = 190 * MS;
/// So many times the learned median, at least, is late.
const LATE: u64 = 5;
/// What is acknowledged and not answered for this long says something.
const PATIENCE: Nanos = SECOND;
/// And what then has no answer for this long, at least, gets none.
const NO_ANSWER: Nanos = 2 * SECOND;
/// What waits this long is looked at.
const LOOK_AFTER: Nanos = 250 * MS;
/// What is not told of again for this long does not wait any more.
const STALE: Nanos = 1500 * MS;
/// Late exchanges count for this long, and so many are needed.
const LATE_FOR: Nanos = 10 * SECOND;
const LATE_ONES: usize = 3;
/// So many of them, and half of all, were late because something was sent again.
const AGAIN: usize = 3;
/// Segments that take so long themselves are sent again without being lost.
const SLOW_WAY_US: u32 = 100_000;
/// Of segments that are sent again in normal time, where that says nothing.
const OFTEN: f64 = 0.01;
/// A request without an answer is not judged before, where segments are lost or held back.
const LOSSY_PATIENCE: Nanos = 9 * SECOND / 2;
/// Evidence of a socket, nats.
const CERTAIN: f64 = 10.0;
const BESIDE: f64 = 6.0;
/// Sockets that are looked at.
const SOCKETS: usize = 32;

type Socket = (u32, i32);
type Peer = (ContainerIndex, String);

/// A request without an answer, or a connection that is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) place: Place,
    pub(crate) peer: String,
    /// When it was last told of.
    pub(crate) told_ns: Nanos,
    /// Its socket says that it waits for good: what was sent is acknowledged and not answered, or not
    /// acknowledged at all.
    pub(crate) in_vain: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Network {
    rates: Rates,
    waiting: BTreeMap<Socket, Waiting>,
    /// Sockets of late exchanges, and when they ended.
    lately: BTreeMap<Socket, (Nanos, Peer)>,
    late: BTreeMap<Peer, Late>,
    /// What sockets had sent again when they were looked at last.
    again: BTreeMap<Socket, u32>,
    narrow: BTreeMap<Peer, Seen>,
    told: Vec<Socket>,
}

#[derive(Debug, Default)]
struct Late {
    /// The last ones.
    at_ns: Vec<Nanos>,
    /// Those whose sockets had sent something again.
    again_ns: Vec<Nanos>,
    pid: u32,
    fd: i32,
}

/// What is known beside.
pub(crate) struct Around<'a> {
    pub(crate) model: &'a dyn Fn(ContainerIndex) -> Option<&'a Reference>,
    pub(crate) last_answer: &'a dyn Fn(ContainerIndex, &str) -> Nanos,
    /// Share of segments sent again in normal time.
    pub(crate) learned: Option<f64>,
    pub(crate) limit: f64,
}

impl Late {
    /// Since when most exchanges are late because segments were sent again.
    fn by_resending(&self) -> Option<Nanos> {
        let most = self.again_ns.len() * 2 >= self.at_ns.len();
        let first = self.again_ns.first().copied();
        first.filter(|_| self.again_ns.len() >= AGAIN && most)
    }
}

impl Network {
    /// An exchange of a client ended, with an answer or without. True where its socket said that there
    /// would be none.
    pub(crate) fn ended(
        &mut self,
        container: ContainerIndex,
        exchange: &Exchange,
        peer: &str,
        model: &Reference,
    ) -> bool {
        let socket = (exchange.pid, exchange.fd);
        let waited = self.waiting.remove(&socket);
        let gave_up = matches!(exchange.failed, Some(Outcome::NoReturn));
        if exchange.failed.is_none() || gave_up {
            self.took(container, exchange, peer, model);
        }
        waited.is_some_and(|waited| waited.in_vain && waited.place.start_ns <= exchange.received_ns)
    }

    fn took(
        &mut self,
        container: ContainerIndex,
        exchange: &Exchange,
        peer: &str,
        model: &Reference,
    ) {
        let socket = (exchange.pid, exchange.fd);
        let took = exchange.duration_ns();
        let late = |normal: Limit| took >= normal.median_ns.saturating_mul(LATE);
        if took < RETRANSMISSION || !model.patience(peer).is_some_and(late) {
            return;
        }
        let at_ns = exchange.received_ns;
        let key = (container, peer.to_owned());
        if self.late.len() >= MAX_KEYS && !self.late.contains_key(&key) {
            self.late.pop_first();
        }
        if self.lately.len() >= MAX_KEYS {
            self.lately.pop_first();
        }
        self.lately.insert(socket, (at_ns, key.clone()));
        let late = self.late.entry(key).or_default();
        late.at_ns
            .retain(|before| at_ns.saturating_sub(*before) < LATE_FOR);
        if late.at_ns.len() < MAX_KEYS {
            late.at_ns.push(at_ns);
        }
        (late.pid, late.fd) = socket;
    }

    /// Something waits at `waiting.told_ns`.
    pub(crate) fn waits(&mut self, waiting: Waiting, model: &Reference) {
        let Place {
            pid, fd, start_ns, ..
        } = waiting.place;
        let age = waiting.told_ns.saturating_sub(start_ns);
        let ceiling = model
            .exchange_limit(&waiting.peer)
            .map_or(0, |l| l.ceiling_ns);
        let known = model.knows_peer(&waiting.peer) || waiting.peer.is_empty();
        if age < LOOK_AFTER.max(ceiling) || !known || is_resolver(&waiting.peer) {
            return;
        }
        let full = self.waiting.len() >= MAX_KEYS;
        match self.waiting.get_mut(&(pid, fd)) {
            Some(known) if known.place.start_ns == start_ns => known.told_ns = waiting.told_ns,
            None if full => {}
            _ => drop(self.waiting.insert((pid, fd), waiting)),
        }
    }

    /// The sockets to look at from now on, where others were before.
    pub(crate) fn wanted(&mut self, now: Nanos) -> Option<Vec<Socket>> {
        self.waiting
            .retain(|_, waiting| now.saturating_sub(waiting.told_ns) < STALE);
        self.lately
            .retain(|_, (at_ns, _)| now.saturating_sub(*at_ns) < STALE);
        let mut waiting: Vec<_> = self.waiting.iter().collect();
        waiting.sort_by_key(|(_, waiting)| waiting.place.start_ns);
        let mut wanted: Vec<Socket> = waiting.into_iter().map(|(socket, _)| *socket).collect();
        wanted.truncate(SOCKETS);
        let lately = self.lately.keys().filter(|s| !self.waiting.contains_key(s));
        let room = SOCKETS.saturating_sub(wanted.len());
        wanted.extend(lately.take(room));
        (wanted != self.told).then(|| {
            self.told.clone_from(&wanted);
            wanted
        })
    }

    /// Takes what the network is like now.
    pub(crate) fn judge(&mut self, state: &NetworkState, around: &Around<'_>) -> Vec<Signal> {
        self.rates.take(state, around.learned, around.limit);
        let mut signals = Vec::new();
        for socket in &state.sockets {
            let signal = self.judge_socket(socket, state.at_ns, around);
            signals.extend(signal.as_ref().and_then(|heard| no_answer(heard, around)));
            signals.extend(signal);
        }
        signals.extend(self.judge_peers(state, around));
        signals
    }

    fn judge_socket(
        &mut self,
        socket: &SocketState,
        now: Nanos,
        around: &Around<'_>,
    ) -> Option<Signal> {
        let key = (socket.pid, socket.fd);
        self.count_again(socket, now);
        let stand = Stand::of(socket);
        let (container, peer) = match (self.waiting.get(&key), self.lately.get(&key)) {
            (Some(waiting), _) => (waiting.place.container, waiting.peer.clone()),
            (None, Some((_, peer))) => peer.clone(),
            (None, None) => return None,
        };
        // The number may be another connection's by now.
        if socket.peer.as_ref().is_some_and(|now| *now != peer) && !peer.is_empty() {
            return None;
        }
        let peer = socket.peer.clone().unwrap_or(peer);
        let waiting = self.waiting.get(&key);
        let start_ns = waiting.map_or(now, |waiting| waiting.place.start_ns);
        self.saw(
            (container, peer.clone()),
            stand == Stand::Narrow,
            start_ns,
            now,
        );
        let waiting = self.waiting.get(&key);
        let place = Place {
            end_ns: now,
            ..waiting?.place
        };
        let (silent, since) = (
            (around.last_answer)(container, &peer) < place.start_ns,
            place.start_ns,
        );
        let about = |kind, token: &str| Signal::at(place, kind, token).about(Some(peer.clone()));
        let peer_of = || peer.clone();
        let waits_ns = now.saturating_sub(since);
        let answer = !matches!(stand, Stand::Unheard { connecting: true });
        if let Some(waiting) = self.waiting.get_mut(&key) {
            waiting.in_vain = silent && answer && stand != Stand::Moving && waits_ns >= PATIENCE;
        }
        match stand {
            Stand::Heard if waits_ns < PATIENCE => None,
            Stand::Heard => {
                let kind = Kind::Heard { peer: peer_of() };
                let signal = about(kind, "socket:acknowledged");
                Some(match silent {
                    true => signal.standing(Standing::Symptom, BESIDE),
                    false => signal,
                })
            }
            Stand::Unheard { .. } if self.rates.no_way_since(since) => {
                let kind = Kind::NoWay { peer: peer_of() };
                Some(about(kind, "socket:no_route").standing(Standing::Hard, CERTAIN))
            }
            Stand::Unheard { connecting } => {
                let kind = Kind::Unheard {
                    peer: peer_of(),
                    connecting,
                };
                let lossy = self.rates.lost_since().is_some_and(|lost_ns| {
                    (around.last_answer)(container, &peer) > lost_ns.saturating_add(SECOND)
                });
                let signal = about(kind, "socket:unacknowledged");
                Some(match silent && !lossy && !self.rates.may_queue() {
                    true => signal.standing(Standing::Opens, CERTAIN),
                    false => signal,
                })
            }
            Stand::Narrow | Stand::Moving => None,
        }
    }

    /// Whether a socket of a late exchange sent something again since it was looked at last.
    fn count_again(&mut self, socket: &SocketState, now: Nanos) {
        let key = (socket.pid, socket.fd);
        if self.again.len() >= MAX_KEYS && !self.again.contains_key(&key) {
            self.again.pop_first();
        }
        let before = self.again.insert(key, socket.sent_again);
        let again = before.is_some_and(|before| socket.sent_again > before);
        if !again || socket.rtt_us >= SLOW_WAY_US {
            return;
        }
        let Some((_, peer)) = self.lately.get(&key) else {
            return;
        };
        if let Some(late) = self.late.get_mut(peer)
            && late.again_ns.len() < MAX_KEYS
        {
            late.again_ns.push(now);
        }
    }

    fn saw(&mut self, peer: Peer, narrow: bool, from_ns: Nanos, now: Nanos) {
        if !narrow {
            if let Some(seen) = self.narrow.get_mut(&peer) {
                seen.otherwise();
            }
            return;
        }
        if self.narrow.len() >= MAX_KEYS && !self.narrow.contains_key(&peer) {
            self.narrow.pop_first();
        }
        let seen = self.narrow.entry(peer);
        seen.or_insert_with(|| Seen::new(from_ns)).narrow_at(now);
    }

    /// Peers that are late because of the way to them.
    fn judge_peers(&mut self, state: &NetworkState, around: &Around<'_>) -> Vec<Signal> {
        let now = state.at_ns;
        self.narrow
            .retain(|_, seen| now.saturating_sub(seen.last_ns()) < 2 * STALE);
        let mut signals = Vec::new();
        for ((container, peer), late) in &mut self.late {
            let lately = |before: &Nanos| now.saturating_sub(*before) < LATE_FOR;
            late.at_ns.retain(lately);
            late.again_ns.retain(lately);
            if late.at_ns.len() < LATE_ONES || (around.model)(*container).is_none() {
                continue;
            }
            let answered = (around.last_answer)(*container, peer);
            let place = |start_ns| Place {
                container: *container,
                pid: late.pid,
                tid: late.pid,
                fd: late.fd,
                start_ns,
                end_ns: now,
            };
            let peer_of = || peer.clone();
            let about = |start_ns, kind, token: &str| {
                Signal::at(place(start_ns), kind, token).about(Some(peer_of()))
            };
            let queued = self.rates.queued(now).filter(|run| answered > run.from_ns);
            let narrow = self.narrow.get(&(*container, peer_of()));
            let narrow = narrow.filter(|seen| seen.is_narrow());
            if let Some(from_ns) = queued
                .map(|run| run.from_ns)
                .or(narrow.map(|seen| seen.first_ns()))
            {
                let kind = Kind::Narrow { peer: peer_of() };
                signals
                    .push(about(from_ns, kind, "socket:queued").standing(Standing::Opens, CERTAIN));
            } else if let Some(run) = self.rates.lost(now)
                && answered > run.from_ns.saturating_add(SECOND)
            {
                let kind = Kind::Lossy { peer: peer_of() };
                let signal = about(run.from_ns, kind, "segments:sent_again");
                let standing = signal.standing(Standing::Opens, run.evidence.min(12.0));
                signals.push(standing.against(run.normal));
            } else if let Some(from_ns) = late.by_resending()
                && !self.rates.may_queue()
                && around.learned.is_none_or(|share| share < OFTEN)
                && answered > from_ns
            {
                let kind = Kind::Lossy { peer: peer_of() };
                let signal = about(from_ns, kind, "segments:sent_again");
                let signal = signal.standing(Standing::Opens, CERTAIN);
                signals.push(signal.against(self.rates.share()));
            }
        }
        signals
    }

    /// The same failed connection as one to which there is no way, where messages say that.
    pub(crate) fn has_no_way(&self, failed: &Signal) -> Option<Signal> {
        let Kind::ConnectFailed { peer, quick: true } = &failed.kind else {
            return None;
        };
        self.rates.no_way_since(failed.start_ns).then(|| {
            let signal = Signal {
                kind: Kind::NoWay { peer: peer.clone() },
                token: "connect:no_route".to_owned(),
                ..failed.clone()
            };
            signal.standing(Standing::Hard, CERTAIN)
        })
    }

    /// A request without an answer says less while segments are lost or held back: the answer, or the
    /// request, may yet come.
    pub(crate) fn qualify(&self, signal: Signal) -> Signal {
        let waits = signal.end_ns.saturating_sub(signal.start_ns);
        let unclear = matches!(signal.kind, Kind::NoAnswer { .. })
            && waits < LOSSY_PATIENCE
            && self.rates.restless();
        match unclear {
            true => signal.standing(Standing::Hit, 0.0),
            false => signal,
        }
    }

    pub(crate) fn restless(&self) -> bool {
        self.rates.restless()
    }

    /// Forgets what was late in a container whose incident is over.
    pub(crate) fn reset(&mut self, container: ContainerIndex) {
        self.late.retain(|(c, _), _| *c != container);
        self.narrow.retain(|(c, _), _| *c != container);
    }

    pub(crate) fn forget(&mut self, pid: u32) {
        self.waiting.retain(|(owner, _), _| *owner != pid);
        self.lately.retain(|(owner, _), _| *owner != pid);
        self.again.retain(|(owner, _), _| *owner != pid);
    }
}

/// A request that was acknowledged, and not answered for much longer than any in learning, while the peer
/// answered nobody.
fn no_answer(heard: &Signal, around: &Around<'_>) -> Option<Signal> {
    let Kind::Heard { peer } = &heard.kind else {
        return None;
    };
    let normal = (around.model)(heard.container)?.exchange_limit(peer)?;
    let longest = normal.highest_ns.saturating_mul(3) / 2;
    let waits = heard.end_ns.saturating_sub(heard.start_ns);
    let least = longest.max(normal.ceiling_ns.saturating_mul(3));
    if heard.standing < Standing::Symptom || waits < least.max(NO_ANSWER) {
        return None;
    }
    let kind = Kind::NoAnswer { peer: peer.clone() };
    let signal = Signal {
        kind,
        token: "exchange:no_answer".to_owned(),
        ..heard.clone()
    };
    let signal = signal.standing(Standing::Opens, CERTAIN);
    Some(signal.against(duration(&normal)))
}
