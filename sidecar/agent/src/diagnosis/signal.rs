//! One statistic that left its learned range.

use stethos_patterns::{Outcome, Token};

use crate::diagnosis::errno::*;
use crate::diagnosis::pod::Pod;
use crate::record::{ContainerIndex, Nanos};

/// What a signal is about: signals with the same cause belong to the same incident.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// Whatever is behind this address; empty while the address is not known.
    Peer(String),
    Disk,
    Files,
    Descriptors,
    Threads,
    Memory,
    Ports,
    Locks,
    /// Time on the processor.
    Processor,
    /// What clients ask for.
    Load,
    /// The process as a whole.
    Process,
    Executable(String),
    /// An error that no class is known for.
    Other(u8),
    /// Something is different.
    Vague,
}

/// What was seen. Signals of one kind in one container are one piece of evidence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// An error that normal work does not have, or not so often.
    Error {
        token: Token,
        cause: Cause,
    },
    /// A connection that was given up right after it was asked for, or a while later.
    ConnectFailed {
        peer: String,
        quick: bool,
    },
    /// The peer closed the connection while it owed an answer.
    ClosedEarly {
        peer: String,
    },
    /// The peer owes an answer for longer than it ever took.
    NoAnswer {
        peer: String,
    },
    SlowExchange {
        peer: String,
    },
    /// The peer's kernel acknowledged what it owes an answer to.
    Heard {
        peer: String,
    },
    /// Nothing of a peer acknowledges what is sent to it again and again; `connecting`: what asks for a
    /// connection.
    Unheard {
        peer: String,
        connecting: bool,
    },
    /// The same, while messages come that there is no way.
    NoWay {
        peer: String,
    },
    /// Segments are lost on the way to or from a peer that answers.
    Lossy {
        peer: String,
    },
    /// What is sent to a peer, or comes from it, queues on the way.
    Narrow {
        peer: String,
    },
    /// This container's own answers take longer.
    SlowService,
    SlowCall {
        token: Token,
    },
    /// Descriptors are opened and not closed.
    DescriptorLeak {
        pid: u32,
    },
    /// This container's own answers wait for locks.
    HeldUp,
    /// Threads wait for a lock for longer than any request took.
    Deadlock {
        pid: u32,
    },
    Frozen {
        pid: u32,
    },
    OutOfMemory,
    /// Memory is taken and not given back.
    MemoryClimbs,
    /// A limit of processor time cuts what was always enough.
    Throttled,
    /// Threads are ready to run and do not get a processor.
    Contended,
    /// Many more requests than ever.
    Flood,
    /// A program that computes all the time, with a connection on which little moves.
    Mines {
        executable: String,
    },
    CrashLoop {
        executable: String,
    },
    UnexpectedExec {
        executable: String,
    },
    ProcessEnded {
        executable: String,
    },
    Surprise,
    Unstable,
    /// One value of the profile is far off.
    Astray,
    /// Own answers say that requests failed.
    Failing,
    /// Connections to a peer are closed after each answer.
    Unkept {
        peer: String,
    },
}

impl Kind {
    pub(crate) fn cause(&self) -> Cause {
        match self {
            Kind::Error { cause, .. } => cause.clone(),
            Kind::ConnectFailed { peer, .. }
            | Kind::ClosedEarly { peer }
            | Kind::NoAnswer { peer }
            | Kind::SlowExchange { peer }
            | Kind::Heard { peer }
            | Kind::Unheard { peer, .. }
            | Kind::NoWay { peer }
            | Kind::Lossy { peer }
            | Kind::Narrow { peer } => Cause::Peer(peer.clone()),
            Kind::SlowCall { .. } => Cause::Disk,
            Kind::Frozen { .. } | Kind::CrashLoop { .. } => Cause::Process,
            Kind::OutOfMemory | Kind::MemoryClimbs => Cause::Memory,
            Kind::Throttled | Kind::Contended => Cause::Processor,
            Kind::DescriptorLeak { .. } => Cause::Descriptors,
            Kind::HeldUp | Kind::Deadlock { .. } => Cause::Locks,
            Kind::Flood => Cause::Load,
            Kind::UnexpectedExec { executable } | Kind::Mines { executable } => {
                Cause::Executable(executable.clone())
            }
            Kind::SlowService
            | Kind::ProcessEnded { .. }
            | Kind::Surprise
            | Kind::Unstable
            | Kind::Astray
            | Kind::Failing
            | Kind::Unkept { .. } => Cause::Vague,
        }
    }

    /// Trouble with a peer that may come from further down, where the peer waits itself.
    pub(crate) fn passes_on(&self) -> bool {
        matches!(
            self,
            Kind::NoAnswer { .. } | Kind::SlowExchange { .. } | Kind::ClosedEarly { .. }
        )
    }

    /// True when the trouble that this shows may have its cause in `container`.
    pub(crate) fn points_to(&self, container: ContainerIndex, pod: &Pod) -> bool {
        let Cause::Peer(peer) = self.cause() else {
            return false;
        };
        pod.callee(&peer).is_some_and(|callee| {
            callee == container || (self.passes_on() && pod.depends(callee, container))
        })
    }

    /// Requests that stay open meanwhile keep their connections open.
    pub(crate) fn holds_up_requests(&self) -> bool {
        let waits = matches!(self, Kind::Deadlock { .. } | Kind::NoAnswer { .. });
        waits || self.is_slow() || self.lacks_processor()
    }

    /// Everything that its container does takes longer.
    pub(crate) fn lacks_processor(&self) -> bool {
        matches!(self, Kind::Throttled | Kind::Contended)
    }

    /// Something took longer than it may.
    pub(crate) fn is_slow(&self) -> bool {
        matches!(
            self,
            Kind::SlowExchange { .. } | Kind::SlowService | Kind::SlowCall { .. } | Kind::HeldUp
        )
    }

    /// True when each signal is one call that went wrong.
    pub(crate) fn affects_calls(&self) -> bool {
        matches!(
            self,
            Kind::Error { .. }
                | Kind::ConnectFailed { .. }
                | Kind::ClosedEarly { .. }
                | Kind::NoAnswer { .. }
                | Kind::SlowExchange { .. }
                | Kind::SlowCall { .. }
                | Kind::HeldUp
        )
    }
}

/// What a signal may do on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// One observation outside the learned range: counts only beside others.
    Hit,
    /// Significant, but the consequence of something: never opens an incident.
    Symptom,
    /// Significant: opens an incident, which time or other evidence confirms.
    Opens,
    /// A hard error that was never seen: opens an incident, which a second one confirms.
    Hard,
    /// One that means a fault by itself: there may be no second.
    Certain,
}

/// What the signal is measured against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Normal {
    None,
    /// That many of so many calls, while learning; and that many a second.
    Count {
        failed: u64,
        of: u64,
        per_second: f64,
    },
    /// Median and limit in ns.
    Duration {
        median_ns: u64,
        limit_ns: u64,
    },
    /// A level that climbed from `from` to `now`, with so much taken and given back meanwhile; its
    /// highest while learning.
    Climb {
        learned: u64,
        from: u64,
        now: u64,
        taken: u64,
        given: u64,
    },
    /// Share of the periods of a limit that it cut; a second of now: held back on all processors, ran; and what ran in
    /// one of learning.
    Throttled {
        learned: f64,
        now: f64,
        still_ns: u64,
        ran_ns: u64,
        usual_ns: u64,
    },
    /// Share of the time in which threads wanted to run that they waited: median and 95th percentile
    /// of the seconds of learning, and now.
    Ready {
        learned: f64,
        most: f64,
        now: f64,
    },
    /// Bytes of memory: at most while learning, when it began to climb, now, and more each second;
    /// its limit, and ns until that is reached.
    Memory {
        learned: u64,
        from: u64,
        now: u64,
        per_second: u64,
        limit: Option<(u64, u64)>,
    },
    /// Requests a second: as learned, in the busiest second of learning, and now.
    Rate {
        usual: f64,
        most: f64,
        now: f64,
    },
    /// A process that is meant to stay, and by now ended so many times.
    Ends {
        now: usize,
    },
    /// So many standard deviations from what is usual.
    Deviations(f64),
    /// Share of observations outside: as calibrated, and now.
    Share {
        calibrated: f64,
        now: f64,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Signal {
    pub(crate) container: ContainerIndex,
    pub(crate) pid: u32,
    pub(crate) tid: u32,
    pub(crate) fd: i32,
    pub(crate) kind: Kind,
    pub(crate) standing: Standing,
    /// Evidence against "as learned", nats.
    pub(crate) weight: f64,
    /// The affected call or span of time.
    pub(crate) start_ns: Nanos,
    pub(crate) end_ns: Nanos,
    /// How the affected call is named: `connect:ECONNREFUSED`.
    pub(crate) token: String,
    /// Path or peer, when known.
    pub(crate) subject: Option<String>,
    pub(crate) normal: Normal,
}

/// The call that is meant, and where it was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) container: ContainerIndex,
    pub(crate) pid: u32,
    pub(crate) tid: u32,
    pub(crate) fd: i32,
    pub(crate) start_ns: Nanos,
    pub(crate) end_ns: Nanos,
}

impl Signal {
    /// A signal without weight: a [`Standing::Hit`].
    pub(crate) fn at(place: Place, kind: Kind, token: impl Into<String>) -> Self {
        Signal {
            container: place.container,
            pid: place.pid,
            tid: place.tid,
            fd: place.fd,
            kind,
            standing: Standing::Hit,
            weight: 0.0,
            start_ns: place.start_ns,
            end_ns: place.end_ns,
            token: token.into(),
            subject: None,
            normal: Normal::None,
        }
    }

    pub(crate) fn standing(mut self, standing: Standing, weight: f64) -> Self {
        self.standing = standing;
        self.weight = weight;
        self
    }

    pub(crate) fn about(mut self, subject: Option<String>) -> Self {
        self.subject = subject;
        self
    }

    pub(crate) fn against(mut self, normal: Normal) -> Self {
        self.normal = normal;
        self
    }
}

/// True for the address of a name server.
pub(crate) fn is_resolver(peer: &str) -> bool {
    peer.ends_with(":53")
}

/// The error of a token that counts as one, also where `EAGAIN` means a limit.
pub(crate) fn error_of(token: Token, makes_threads: bool) -> Option<u8> {
    match token.outcome {
        Outcome::Errno(EAGAIN) if makes_threads => Some(EAGAIN),
        Outcome::Errno(errno) if token.outcome.is_error() => Some(errno),
        _ => None,
    }
}
