//! Errors that normal work does not have, or not so often.
//!
//! An error that learning never saw for this call (for connects and opens: for this peer or
//! path) is immediate; how many it takes depends on how often such an error means nothing:
//!
//! | error | needed |
//! | --- | --- |
//! | refused, unreachable, timed out, disk, descriptors, threads, ports | 1 |
//! | a read-only disk, in a starting process | the same in 3 processes, over 1 s |
//! | a peer's error in a starting process (its dependencies start as well) | 3, for 2 s |
//! | reset or closed connection of a client, memory | 2 |
//! | memory, in a starting process (large pages are asked for first) | the same in 3 processes, over 1 s |
//! | forbidden path that learning saw opened | 1 |
//! | missing or forbidden path, process older than [`STARTING`](crate::diagnosis::pod::STARTING) | 2 of one path within 60 s; 1 in a surprising window |
//! | the same in a starting process (loader, configuration search) | the same path in 3 processes, over 1 s: a server that starts again makes files anew that its processes look for at once |
//! | a missing path that learning never saw opened | most opens fail, for seconds |
//! | a path that learning asked for in vain, too | never: clients ask for it more often |
//! | anything else | most calls of this kind fail, for seconds |
//!
//! Paths do not count in a process whose program learning never saw: that it runs is a signal of its own.
//!
//! Known errors go through a test of their share among the calls of their kind, so that load
//! alone changes nothing. Errors on accepted sockets are the clients' affair and do not count.

mod failure;
mod shares;

use std::collections::{BTreeMap, BTreeSet};

use failure::Failure;
use shares::Shares;
use stethos_patterns::descriptors::Exchange;
use stethos_patterns::names::CallKind;
use stethos_patterns::{Outcome, Role, Token, WindowCall};

use crate::diagnosis::errno::*;
use crate::diagnosis::signal::{Cause, Kind, Normal, Signal, Standing};
use crate::diagnosis::signals::{MAX_KEYS, RESTART, Scene};
use crate::record::{ContainerIndex, Nanos};
use crate::sequential::SECOND;

/// Repetitions count within this time: who is asked once in some seconds fails seldom.
const REPEAT_WITHIN: Nanos = 60 * SECOND;
/// A never-seen error is worth this much, nats.
const NEVER_SEEN: f64 = 10.0;
/// Distinct paths that normal work failed to open from which on missing paths are routine.
const ROUTINE_MISSES: usize = 32;

type Key = (ContainerIndex, Token, Option<String>);

#[derive(Debug, Default)]
pub(crate) struct Errors {
    recent: BTreeMap<Key, Recent>,
    /// Exchanges of clients that failed while calls are only counted, by end, process and
    /// descriptor: with whom. The window of the call comes after them, and knows the descriptor only
    /// as it is by then.
    exchanges: BTreeMap<(Nanos, u32, i32), String>,
    shares: Shares,
}

#[derive(Debug, Default)]
struct Recent {
    first_ns: Nanos,
    last_ns: Nanos,
    count: u64,
    pids: BTreeSet<u32>,
}

impl Recent {
    fn lasted_ns(&self) -> Nanos {
        self.last_ns.saturating_sub(self.first_ns)
    }
}

impl Errors {
    /// An exchange of a client with `peer` failed; its call is judged later.
    pub(crate) fn exchange_failed(&mut self, exchange: &Exchange, peer: &str) {
        let is_error = exchange.failed.is_some_and(Outcome::is_error);
        if exchange.role != Role::Client || !is_error || peer.is_empty() {
            return;
        }
        if self.exchanges.len() >= MAX_KEYS {
            self.exchanges.pop_first();
        }
        let key = (exchange.received_ns, exchange.pid, exchange.fd);
        self.exchanges.insert(key, peer.to_owned());
    }

    fn peer(&self, scene: &Scene<'_>, call: &WindowCall) -> Option<&str> {
        let key = (call.end_ns(), scene.pid, call.fd);
        self.exchanges.get(&key).map(String::as_str)
    }

    /// Whether the call failed in a way that an operator has accepted.
    pub(crate) fn is_accepted(&self, scene: &Scene<'_>, call: &WindowCall) -> bool {
        if call.token.outcome == Outcome::Ok {
            return false;
        }
        let Some(model) = scene.model.filter(|model| model.accepts_something()) else {
            return false;
        };
        let failure = Failure::of(scene, call, self.peer(scene, call));
        failure.is_some_and(|failure| model.accepts_error(call.token, failure.subject.as_deref()))
    }

    /// Judges one finished call.
    pub(crate) fn judge(&mut self, scene: &Scene<'_>, call: &WindowCall) -> Option<Signal> {
        let Some(Failure {
            errno,
            cause,
            subject,
        }) = Failure::of(scene, call, self.peer(scene, call))
        else {
            if Failure::errno(scene, call).is_none() {
                self.found(scene, call);
                self.shares.went_well(scene, call);
            }
            return None;
        };
        let kind = Kind::Error {
            token: call.token,
            cause: cause.clone(),
        };
        let signal = Signal::at(scene.place(call), kind, scene.table.token_name(&call.token));
        let Some(model) = scene.model else {
            return needs_no_baseline(&cause, errno).then(|| {
                signal
                    .about(subject)
                    .standing(hard(&cause, errno, None, false), NEVER_SEEN)
            });
        };
        // What a program that nobody knows does not find, or may not open, was never there for it.
        if cause == Cause::Files && scene.runs_unknown(model) {
            return None;
        }
        let by_subject = matches!(cause, Cause::Peer(_) | Cause::Files);
        let before = match &subject {
            Some(subject) if by_subject => model.failures(call.token, subject),
            _ => model.outcomes(call.token),
        };
        let routine = cause == Cause::Files
            && subject.is_some()
            && model.failed_subjects(call.token) > ROUTINE_MISSES;
        // A path that never was there is not missing: somebody asked for the wrong one.
        let opened = subject.as_deref().and_then(|path| model.has_opened(path));
        let known = before > 0 || routine || (missing(&cause, errno) && opened == Some(false));
        let signal = signal.about(subject.clone()).against(Normal::Count {
            failed: before,
            of: model.attempts(call.token.call),
            per_second: model.per_second(before),
        });
        if cause == Cause::Files && before > 0 {
            return None;
        }
        if known || matches!(cause, Cause::Other(_)) {
            return self.shares.failed(scene, call, signal);
        }
        let recent = self.remember(scene, call, subject);
        let enough = match needed(&cause, errno, opened, scene, call) {
            Needed::Times(times) => recent.count >= times,
            Needed::Lasting(times, ns) => recent.count >= times && recent.lasted_ns() >= ns,
            Needed::Processes(processes, ns) => {
                recent.pids.len() >= processes && recent.lasted_ns() >= ns
            }
        };
        let again = match cause {
            Cause::Peer(_) => recent.count >= 2 && recent.lasted_ns() >= RESTART,
            _ => scene.surprising || recent.count >= 2,
        };
        let (standing, weight) = match enough {
            true => (
                hard(&cause, errno, opened, again),
                NEVER_SEEN + (recent.count as f64).ln(),
            ),
            false => (Standing::Hit, 0.0),
        };
        Some(signal.standing(standing, weight))
    }

    fn remember(
        &mut self,
        scene: &Scene<'_>,
        call: &WindowCall,
        subject: Option<String>,
    ) -> &Recent {
        let now = call.end_ns();
        if self.recent.len() >= MAX_KEYS {
            self.recent
                .retain(|_, r| now.saturating_sub(r.last_ns) < REPEAT_WITHIN);
        }
        if self.recent.len() >= MAX_KEYS {
            self.recent.pop_first();
        }
        let recent = self
            .recent
            .entry((scene.container, call.token, subject))
            .or_default();
        if now.saturating_sub(recent.last_ns) >= REPEAT_WITHIN {
            *recent = Recent {
                first_ns: now,
                ..Recent::default()
            };
        }
        recent.last_ns = recent.last_ns.max(now);
        recent.count += 1;
        if recent.pids.len() < 8 {
            recent.pids.insert(scene.pid);
        }
        recent
    }

    pub(crate) fn restless(&self) -> bool {
        self.shares.restless()
    }

    /// What was missed is there.
    fn found(&mut self, scene: &Scene<'_>, call: &WindowCall) {
        let opens = scene.table.kind(call.token.call) == CallKind::Open;
        if self.recent.is_empty() || !opens {
            return;
        }
        let fd = i32::try_from(call.ret).ok();
        let Some(there) = fd.and_then(|fd| scene.pod.file(scene.pid, fd)) else {
            return;
        };
        self.recent.retain(|(container, _, missed), _| {
            // As the process named it, and as the kernel does.
            let is_it = missed.as_deref().is_some_and(|missed| {
                let rest = there.strip_suffix(missed);
                rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
            });
            *container != scene.container || !is_it
        });
    }
}

/// A file is not there.
fn missing(cause: &Cause, errno: u8) -> bool {
    *cause == Cause::Files && errno == ENOENT
}

enum Needed {
    Times(u64),
    Lasting(u64, Nanos),
    Processes(usize, Nanos),
}

/// A limit that is reached is, and a disk that is full is so for everybody; who does not know what was lost on one
/// may never ask again, and what used to open is not forbidden by chance. A file that is made anew is away for a
/// moment: so one that is missing has to be missed, by what its program does then (`again`: or twice).
fn hard(cause: &Cause, errno: u8, opened: Option<bool>, again: bool) -> Standing {
    match cause {
        Cause::Disk if errno != EROFS => Standing::Certain,
        Cause::Descriptors | Cause::Threads => Standing::Certain,
        Cause::Files if opened == Some(true) && (errno != ENOENT || again) => Standing::Certain,
        Cause::Peer(_) if again && is_broken_off(errno) => Standing::Certain,
        _ => Standing::Hard,
    }
}

/// `opened`: learning saw the path opened.
fn needed(
    cause: &Cause,
    errno: u8,
    opened: Option<bool>,
    scene: &Scene<'_>,
    call: &WindowCall,
) -> Needed {
    let starting = scene.pod.is_starting(scene.pid, call.end_ns());
    match cause {
        Cause::Files | Cause::Memory if starting => Needed::Processes(3, SECOND),
        // Images that are read-only are usual, and programs that try to keep something in them.
        Cause::Disk if starting && errno == EROFS => Needed::Processes(3, SECOND),
        Cause::Files if errno != ENOENT && opened == Some(true) => Needed::Times(1),
        Cause::Peer(_) if starting => Needed::Lasting(3, 2 * SECOND),
        Cause::Files if scene.surprising => Needed::Times(1),
        Cause::Files | Cause::Memory => Needed::Times(2),
        Cause::Peer(_) if is_broken_off(errno) => Needed::Times(2),
        _ => Needed::Times(1),
    }
}

/// Errors that are none of an application's normal work, whatever it is.
fn needs_no_baseline(cause: &Cause, errno: u8) -> bool {
    matches!(
        (cause, errno),
        (Cause::Disk, ENOSPC | EIO | EROFS) | (Cause::Descriptors, _)
    )
}
