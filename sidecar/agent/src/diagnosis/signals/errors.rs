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

use std::collections::{BTreeMap, BTreeSet};

use stethos_patterns::descriptors::Exchange;
use stethos_patterns::names::{CallKind, CallTable};
use stethos_patterns::{Outcome, Role, Token, WindowCall};

use crate::diagnosis::errno::*;
use crate::diagnosis::signal::{Cause, Kind, Normal, Signal, Standing, error_of};
use crate::diagnosis::signals::{MAX_KEYS, RESTART, RESTLESS, Scene};
use crate::record::{ContainerIndex, Nanos};
use crate::sequential::{SECOND, ShareTest};

/// Repetitions count within this time: who is asked once in some seconds fails seldom.
const REPEAT_WITHIN: Nanos = 60 * SECOND;
/// A higher share of failing calls has to last this long.
const RATE_LASTS: Nanos = 2 * SECOND;
/// A never-seen error is worth this much, nats.
const NEVER_SEEN: f64 = 10.0;
/// Evidence from which on an error that normal work has is an affected call, nats.
const NOTABLE: f64 = 6.0;
/// Distinct paths that normal work failed to open from which on missing paths are routine.
const ROUTINE_MISSES: usize = 32;
/// Calls made fewer times while learning have no share of errors to compare with.
const SELDOM: u64 = 100;
const STANDARD_ERROR: i32 = 2;
/// Errors that no class is known for have to be this many, and last this long.
const UNCLASSED: (u64, Nanos) = (20, 10 * SECOND);

type Key = (ContainerIndex, Token, Option<String>);

#[derive(Debug, Default)]
pub(crate) struct Errors {
    recent: BTreeMap<Key, Recent>,
    /// Exchanges of clients that failed while calls are only counted, by end, process and
    /// descriptor: with whom. The window of the call comes after them, and knows the descriptor only
    /// as it is by then.
    exchanges: BTreeMap<(Nanos, u32, i32), String>,
    rates: BTreeMap<(ContainerIndex, u16), Vec<(Token, ShareTest)>>,
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

/// A call that failed, and on what.
struct Failure {
    errno: u8,
    cause: Cause,
    /// Path or peer, when known.
    subject: Option<String>,
}

impl Failure {
    fn errno(scene: &Scene<'_>, call: &WindowCall) -> Option<u8> {
        error_of(call.token, makes_threads(scene.table.name(call.token.call)))
    }

    /// `peer`: the call is known to be a client's, and whose.
    fn of(scene: &Scene<'_>, call: &WindowCall, peer: Option<&str>) -> Option<Self> {
        let errno = Self::errno(scene, call)?;
        let name = scene.table.name(call.token.call);
        let cause = Errors::cause(scene, call, name, errno, peer)?;
        let subject = scene.subject(call).or_else(|| match &cause {
            Cause::Peer(peer) => Some(peer.clone()).filter(|peer| !peer.is_empty()),
            Cause::Disk => scene.pod.file(scene.pid, call.fd).map(str::to_owned),
            _ => None,
        });
        Some(Failure {
            errno,
            cause,
            subject,
        })
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
                self.count_good(scene, call);
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
        let attempts = model.attempts(call.token.call);
        let failed = model.outcomes(call.token);
        let by_subject = matches!(cause, Cause::Peer(_) | Cause::Files);
        let before = match &subject {
            Some(subject) if by_subject => model.failures(call.token, subject),
            _ => failed,
        };
        let routine = cause == Cause::Files
            && subject.is_some()
            && model.failed_subjects(call.token) > ROUTINE_MISSES;
        // A path that never was there is not missing: somebody asked for the wrong one.
        let opened = subject.as_deref().and_then(|path| model.has_opened(path));
        let known = before > 0 || routine || (missing(&cause, errno) && opened == Some(false));
        let signal = signal.about(subject.clone()).against(Normal::Count {
            failed: before,
            of: attempts,
            per_second: model.per_second(before),
        });
        if cause == Cause::Files && before > 0 {
            return None;
        }
        if known || matches!(cause, Cause::Other(_)) {
            return self.judge_rate(scene, call, signal, failed, attempts);
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

    fn cause(
        scene: &Scene<'_>,
        call: &WindowCall,
        name: &str,
        errno: u8,
        of_client: Option<&str>,
    ) -> Option<Cause> {
        let kind = scene.table.kind(call.token.call);
        let peer = || {
            let told = of_client.map(str::to_owned);
            told.or_else(|| scene.peer(call)).unwrap_or_default()
        };
        let role = of_client.map_or(call.role, |_| Role::Client);
        let served = matches!(role, Role::Server | Role::Listener);
        let path = matches!(
            kind,
            CallKind::Open | CallKind::Write | CallKind::Sync | CallKind::File
        );
        let moves = matches!(kind, CallKind::Read | CallKind::Write | CallKind::Connect)
            || name == "getsockopt";
        Some(match errno {
            ECONNREFUSED | EHOSTUNREACH | ENETUNREACH | ENETDOWN | EHOSTDOWN if !served => {
                Cause::Peer(peer())
            }
            ECONNRESET | EPIPE | ECONNABORTED if role == Role::Client => Cause::Peer(peer()),
            ECONNRESET | EPIPE | ECONNABORTED => return None,
            ETIMEDOUT if moves && !served => Cause::Peer(peer()),
            // A timed wait that ran out.
            ETIMEDOUT => return None,
            ENOSPC | EDQUOT | EFBIG if path && name != "inotify_add_watch" => Cause::Disk,
            EROFS => Cause::Disk,
            EIO if (path || kind == CallKind::Read) && is_file(call, kind) => Cause::Disk,
            EMFILE | ENFILE if name != "inotify_add_watch" => Cause::Descriptors,
            EAGAIN => Cause::Threads,
            ENOMEM => Cause::Memory,
            EADDRINUSE if matches!(name, "bind" | "listen") => Cause::Ports,
            EADDRNOTAVAIL if kind == CallKind::Connect => Cause::Ports,
            ENOENT if kind == CallKind::Open => Cause::Files,
            // A filter that drops what is sent.
            EPERM if kind == CallKind::Write && role == Role::Client => Cause::Peer(peer()),
            EACCES | EPERM if path || matches!(name, "bind" | "connect" | "execve") => Cause::Files,
            _ if served => return None,
            other => Cause::Other(other),
        })
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

    fn judge_rate(
        &mut self,
        scene: &Scene<'_>,
        call: &WindowCall,
        signal: Signal,
        failed: u64,
        attempts: u64,
    ) -> Option<Signal> {
        if scene.reduced || scene.pod.is_starting(scene.pid, call.end_ns()) {
            return None;
        }
        let (p0, p1) = shares(scene.table, call.token, failed, attempts)?;
        if self.rates.len() >= MAX_KEYS
            && !self.rates.contains_key(&(scene.container, call.token.call))
        {
            self.rates.pop_first();
        }
        let tests = self
            .rates
            .entry((scene.container, call.token.call))
            .or_default();
        let index = match tests.iter().position(|(token, _)| *token == call.token) {
            Some(index) => index,
            None if tests.len() < 16 => {
                tests.push((call.token, ShareTest::new()));
                tests.len() - 1
            }
            None => return None,
        };
        let mut result = None;
        for (i, (token, test)) in tests.iter_mut().enumerate() {
            if i == index {
                let evidence = test.observe(call.end_ns(), true, p0, p1);
                let run = test.run()?;
                let (hits, time) = match signal.kind.cause() {
                    Cause::Other(_) => UNCLASSED,
                    _ => (5, RATE_LASTS),
                };
                let lasts = run.last_ns.saturating_sub(run.first_ns) >= time && run.hits >= hits;
                result = match evidence {
                    evidence if evidence >= scene.limit && lasts => {
                        Some((Standing::Opens, evidence.min(NEVER_SEEN)))
                    }
                    evidence if evidence >= NOTABLE => Some((Standing::Hit, 0.0)),
                    _ => None,
                };
            } else if let Some((p0, p1)) = known_shares(scene, *token) {
                test.observe(call.end_ns(), false, p0, p1);
            }
        }
        result.map(|(standing, weight)| signal.standing(standing, weight))
    }

    pub(crate) fn restless(&self) -> bool {
        let mut tests = self.rates.values().flatten();
        tests.any(|(_, test)| test.evidence() > RESTLESS)
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

    fn count_good(&mut self, scene: &Scene<'_>, call: &WindowCall) {
        self.found(scene, call);
        if scene.reduced {
            return;
        }
        let Some(tests) = self.rates.get_mut(&(scene.container, call.token.call)) else {
            return;
        };
        for (token, test) in tests.iter_mut() {
            if let Some((p0, p1)) = known_shares(scene, *token) {
                test.observe(call.end_ns(), false, p0, p1);
            }
        }
    }
}

fn known_shares(scene: &Scene<'_>, token: Token) -> Option<(f64, f64)> {
    let model = scene.model?;
    shares(
        scene.table,
        token,
        model.outcomes(token),
        model.attempts(token.call),
    )
}

/// Share of failing calls as learned (with a margin of two) and as tested against: five times
/// more for errors that have a class, most calls for those that a different mix of requests
/// brings as well. None when normal work fails too often to tell.
pub(crate) fn shares(
    table: &CallTable,
    token: Token,
    failed: u64,
    attempts: u64,
) -> Option<(f64, f64)> {
    let seldom = attempts < SELDOM && failed == 0;
    let p0 = if seldom {
        0.05
    } else {
        2.0 * (failed as f64 + 1.0) / (attempts as f64 + 2.0)
    };
    let classed = !matches!(token.outcome, Outcome::Errno(ENOENT | EACCES | EPERM))
        && table.kind(token.call) != CallKind::Other;
    let p1 = if classed { (5.0 * p0).max(0.1) } else { 0.6 };
    (p0 * 3.0 <= p1 && p1 < 0.97).then_some((p0, p1))
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

fn makes_threads(name: &str) -> bool {
    matches!(name, "clone" | "clone3" | "fork" | "vfork")
}

/// `EIO` on a terminal is not a disk's. What another thread has just opened is not known to be a file
/// while its call is only counted; a terminal is where a process has it from its start.
fn is_file(call: &WindowCall, kind: CallKind) -> bool {
    match call.role {
        Role::File => true,
        Role::None if kind == CallKind::Write => call.fd > STANDARD_ERROR,
        _ => matches!(kind, CallKind::Open | CallKind::Sync),
    }
}
