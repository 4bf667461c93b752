//! The detectors: each turns observations of one sort into signals.

pub(crate) mod climb;
pub(crate) mod connections;
pub(crate) mod contention;
pub(crate) mod descriptors;
pub(crate) mod durations;
pub(crate) mod errors;
pub(crate) mod exchanges;
pub(crate) mod failing;
pub(crate) mod flood;
pub(crate) mod frozen;
pub(crate) mod lifecycle;
pub(crate) mod locks;
pub(crate) mod memory;
pub(crate) mod miners;
pub(crate) mod network;
pub(crate) mod pieces;
pub(crate) mod processes;
pub(crate) mod resources;
pub(crate) mod stability;
pub(crate) mod stuck;
pub(crate) mod surprise;
pub(crate) mod throttling;
pub(crate) mod unkept;

use stethos_patterns::WindowCall;
use stethos_patterns::names::CallTable;

use crate::diagnosis::pod::Pod;
use crate::diagnosis::reference::Reference;
use crate::diagnosis::signal::Place;
use crate::record::{ContainerIndex, Nanos, Subject};
use crate::sequential::{self, SECOND};

/// Keys that one detector follows at a time; further ones are not judged until others go.
pub(crate) const MAX_KEYS: usize = 512;

/// Sequential tests that a pod runs at once, for the split of the false-alarm budget.
const TESTS: f64 = 64.0;
/// Slices in a second (a test's evidence moves by a bounded amount in each).
const SLICES: f64 = 4.0;

/// A peer that starts again is there within this: who stays away is to be told of within two seconds.
pub(crate) const RESTART: Nanos = 3 * SECOND / 2;

/// Evidence from which on a test has found something that it has to be sure of, nats.
pub(crate) const RESTLESS: f64 = 6.0;

/// Evidence in nats at which a sequential test is significant.
pub(crate) fn test_limit(false_alarms_per_day: f64) -> f64 {
    sequential::limit(false_alarms_per_day, TESTS, SLICES)
}

/// Where a call was made and what is known there.
#[derive(Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) container: ContainerIndex,
    pub(crate) pid: u32,
    pub(crate) tid: u32,
    pub(crate) table: &'static CallTable,
    pub(crate) model: Option<&'a Reference>,
    pub(crate) pod: &'a Pod,
    /// The window as a whole is stranger than its pattern allows.
    pub(crate) surprising: bool,
    /// See [`test_limit`].
    pub(crate) limit: f64,
    /// Calls per second of the container, in multiples of the learned rate.
    pub(crate) load: f64,
    /// Calls are only counted: those that are there are the unusual ones, and their share says
    /// nothing.
    pub(crate) reduced: bool,
}

impl Scene<'_> {
    pub(crate) fn place(&self, call: &WindowCall) -> Place {
        Place {
            container: self.container,
            pid: self.pid,
            tid: self.tid,
            fd: call.fd,
            start_ns: call.enter_ns,
            end_ns: call.end_ns(),
        }
    }

    /// Whether the process runs a program that learning never saw.
    pub(crate) fn runs_unknown(&self, model: &Reference) -> bool {
        self.pod.process(self.pid).is_some_and(|process| {
            let program = process.executable.as_str();
            let known = model.knows_executable(program)
                || model.knows_command(program)
                || model.accepts_command(program);
            !program.is_empty() && !known
        })
    }

    /// Path or peer that the call named.
    pub(crate) fn subject(&self, call: &WindowCall) -> Option<String> {
        match self.pod.subject(self.tid, call.token.call, call.end_ns())? {
            Subject::Path(subject) | Subject::Peer(subject) => Some(subject.clone()),
        }
    }

    /// Whom the call talked to: as it named it, or as its descriptor says.
    pub(crate) fn peer(&self, call: &WindowCall) -> Option<String> {
        let named = self
            .table
            .is_connect(call.token.call)
            .then(|| self.subject(call))
            .flatten();
        named.or_else(|| self.pod.peer(self.pid, call.fd).map(str::to_owned))
    }
}
