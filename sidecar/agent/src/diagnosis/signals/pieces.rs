//! Answers that come in pieces at a steady pace.
//!
//! What a slow peer needs for an answer does not depend on its length, and what a narrow way needs does:
//! of answers of different lengths, the rate is then the same, and the time is not. Answers in few
//! pieces, or all of one length, say nothing. Nor does the pace alone: some peers dictate it. So this never
//! opens an incident, but says what makes something slow. Long answers are not waited for: several that still
//! come, all at one pace, say the same.

use std::collections::{BTreeMap, VecDeque};

use stethos_patterns::names::CallKind;
use stethos_patterns::{Outcome, Role, WindowCall};

use crate::diagnosis::signal::{Kind, Place, Signal, Standing};
use crate::diagnosis::signals::{MAX_KEYS, Scene};
use crate::record::{ContainerIndex, Nanos};
use crate::sequential::SECOND;

const MAX_ANSWERS: usize = 2048;
/// Pieces after the first, and time for them.
const PIECES: u32 = 3;
const TAKES: Nanos = SECOND / 20;
/// Answers of a peer that are compared, within so much time.
const ANSWERS: (usize, usize) = (5, 24);
const WITHIN: Nanos = 20 * SECOND;
/// Variance of the logarithm of times that says something, and how much of it that of rates may have.
const DIFFERENT: f64 = 0.06;
const STEADY: f64 = 0.4;
/// Answers of a peer that still come at one pace: so many, each for so long and in so many pieces, with rates
/// that differ by no more than this part of them.
const COMING: usize = 3;
const COMES: Nanos = 3 * SECOND / 2;
const COMES_IN: u32 = 8;
const ALIKE: f64 = 0.2;
/// A way is not called narrow above this, bytes a second.
const NARROW: f64 = 1_000_000.0;
const WEIGHT: f64 = 8.0;

#[derive(Debug, Default)]
pub(crate) struct Pieces {
    /// Answers that are coming in, by process and descriptor.
    coming: BTreeMap<(u32, i32), Coming>,
    came: BTreeMap<(ContainerIndex, String), VecDeque<Came>>,
}

#[derive(Clone, Copy, Debug)]
struct Coming {
    container: ContainerIndex,
    first_ns: Nanos,
    last_ns: Nanos,
    /// After the first piece.
    pieces: u32,
    bytes: u64,
}

impl Coming {
    /// Bytes a second, of one that has come for long.
    fn rate(&self) -> Option<f64> {
        let took = self.last_ns.saturating_sub(self.first_ns);
        let long = took >= COMES && self.pieces >= COMES_IN;
        long.then(|| self.bytes as f64 * SECOND as f64 / took as f64)
    }
}

/// What a call says of the answer that it is part of.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    /// It is not the first of its answer: with whom.
    pub(crate) of: Option<String>,
    pub(crate) signal: Option<Signal>,
}

#[derive(Clone, Copy, Debug)]
struct Came {
    place: Place,
    bytes: u64,
}

impl Came {
    fn seconds(&self) -> f64 {
        self.place.end_ns.saturating_sub(self.place.start_ns) as f64 / SECOND as f64
    }

    fn rate(&self) -> f64 {
        self.bytes as f64 / self.seconds()
    }
}

impl Pieces {
    pub(crate) fn observe(&mut self, scene: &Scene<'_>, call: &WindowCall) -> Piece {
        let kind = scene.table.kind(call.token.call);
        let moved = call.token.outcome == Outcome::Ok && call.ret > 0;
        let key = (scene.pid, call.fd);
        match kind {
            CallKind::Read if call.role == Role::Client && moved => {
                let end_ns = call.end_ns();
                if self.coming.len() >= MAX_ANSWERS && !self.coming.contains_key(&key) {
                    self.coming.pop_first();
                }
                let Some(coming) = self.coming.get_mut(&key) else {
                    let coming = Coming {
                        container: scene.container,
                        first_ns: end_ns,
                        last_ns: end_ns,
                        pieces: 0,
                        bytes: 0,
                    };
                    self.coming.insert(key, coming);
                    return Piece::default();
                };
                coming.last_ns = coming.last_ns.max(end_ns);
                coming.pieces += 1;
                coming.bytes += call.ret.unsigned_abs();
                let (coming, peer) = (*coming, scene.pod.peer(scene.pid, call.fd));
                let looked = coming.rate().is_some() && coming.pieces % COMES_IN == 0;
                let signal = peer
                    .filter(|_| looked)
                    .and_then(|peer| self.at_one_pace(scene, coming, peer));
                Piece {
                    of: peer.map(str::to_owned),
                    signal,
                }
            }
            CallKind::Write if call.role == Role::Client && moved => self.whole(scene, key).into(),
            CallKind::Close => self.whole(scene, key).into(),
            _ => Piece::default(),
        }
    }

    /// Several answers of the peer of `one` still come, all at its pace.
    fn at_one_pace(&self, scene: &Scene<'_>, one: Coming, peer: &str) -> Option<Signal> {
        let same = |((pid, fd), other): (&(u32, i32), &Coming)| {
            let lately = one.last_ns.saturating_sub(other.last_ns) < COMES;
            let rate = other.rate().filter(|_| lately)?;
            let of_peer = other.container == scene.container && scene.pod.peer(*pid, *fd)? == peer;
            of_peer.then_some(rate)
        };
        let rates: Vec<f64> = self.coming.iter().filter_map(same).collect();
        if !are_alike(&rates) {
            return None;
        }
        let place = Place {
            container: scene.container,
            pid: scene.pid,
            tid: scene.tid,
            fd: -1,
            start_ns: one.first_ns,
            end_ns: one.last_ns,
        };
        Some(narrow(place, peer))
    }

    /// The answer is whole: the next request begins, or nothing more comes.
    fn whole(&mut self, scene: &Scene<'_>, key: (u32, i32)) -> Option<Signal> {
        let coming = self.coming.remove(&key)?;
        let took = coming.last_ns.saturating_sub(coming.first_ns);
        if coming.pieces < PIECES || took < TAKES {
            return None;
        }
        let peer = scene.pod.peer(scene.pid, key.1)?.to_owned();
        let of = (scene.container, peer.clone());
        if self.came.len() >= MAX_KEYS && !self.came.contains_key(&of) {
            self.came.pop_first();
        }
        let came = self.came.entry(of).or_default();
        let place = Place {
            container: scene.container,
            pid: scene.pid,
            tid: scene.tid,
            fd: key.1,
            start_ns: coming.first_ns,
            end_ns: coming.last_ns,
        };
        came.retain(|before| place.end_ns.saturating_sub(before.place.end_ns) < WITHIN);
        if came.len() >= ANSWERS.1 {
            came.pop_front();
        }
        came.push_back(Came {
            place,
            bytes: coming.bytes,
        });
        is_narrow(came).then(|| narrow(place, &peer))
    }

    pub(crate) fn reset(&mut self, container: ContainerIndex) {
        self.came.retain(|(c, _), _| *c != container);
    }
}

impl From<Option<Signal>> for Piece {
    fn from(signal: Option<Signal>) -> Self {
        Self { of: None, signal }
    }
}

fn narrow(place: Place, peer: &str) -> Signal {
    let kind = Kind::Narrow {
        peer: peer.to_owned(),
    };
    Signal::at(place, kind, "answer:in_pieces")
        .about(Some(peer.to_owned()))
        .standing(Standing::Symptom, WEIGHT)
}

fn are_alike(rates: &[f64]) -> bool {
    let slowest = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let fastest = rates.iter().copied().fold(0.0, f64::max);
    rates.len() >= COMING && fastest < NARROW && fastest - slowest <= ALIKE * fastest
}

fn is_narrow(came: &VecDeque<Came>) -> bool {
    if came.len() < ANSWERS.0 {
        return false;
    }
    let times = variance(came.iter().map(|came| came.seconds().ln()));
    let rates = variance(came.iter().map(|came| came.rate().ln()));
    let narrow = came.iter().all(|came| came.rate() < NARROW);
    narrow && times >= DIFFERENT && rates <= STEADY * times
}

fn variance(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let (count, sum) = values
        .clone()
        .fold((0.0, 0.0), |(count, sum), value| (count + 1.0, sum + value));
    let mean = sum / f64::max(count, 1.0);
    values.map(|value| (value - mean).powi(2)).sum::<f64>() / f64::max(count - 1.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(each: impl Fn(u64) -> (u64, u64)) -> VecDeque<Came> {
        let one = |number| {
            let (bytes, ms) = each(number);
            let place = Place {
                container: 0,
                pid: 1,
                tid: 1,
                fd: 7,
                start_ns: number * SECOND,
                end_ns: number * SECOND + ms * SECOND / 1000,
            };
            Came { place, bytes }
        };
        (0..8).map(one).collect()
    }

    #[test]
    fn time_that_goes_with_the_length_is_a_narrow_way() {
        assert!(is_narrow(&answers(|n| {
            let bytes = 400 + 300 * (n % 4);
            (bytes, bytes / 3 + n % 3)
        })));
    }

    #[test]
    fn time_that_does_not_is_none() {
        assert!(!is_narrow(&answers(|n| (400 + 300 * (n % 4), 300 + n % 3))));
    }

    #[test]
    fn several_that_come_at_one_pace_are_a_narrow_way() {
        assert!(are_alike(&[2990.0, 3000.0, 3300.0]));
        assert!(!are_alike(&[3000.0, 3000.0]), "too few");
        assert!(!are_alike(&[3000.0, 3000.0, 9000.0]), "no one pace");
        assert!(!are_alike(&[3e6, 3e6, 3e6]), "not narrow");
    }

    #[test]
    fn answers_of_one_length_say_nothing() {
        assert!(!is_narrow(&answers(|n| (600, 200 + n % 3))));
    }
}
