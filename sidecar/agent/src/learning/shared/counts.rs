//! What was asked of a shared store, and what came of it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::error::{Cause, Failure};

/// What a store is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    Find,
    Save,
}

impl Task {
    pub fn name(self) -> &'static str {
        match self {
            Task::Find => "find",
            Task::Save => "save",
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) found: AtomicU64,
    pub(super) older: AtomicU64,
    pub(super) not_found: AtomicU64,
    pub(super) saved: AtomicU64,
    pub(super) already_there: AtomicU64,
    pub(super) replaced: AtomicU64,
    too_large: AtomicU64,
    signature: AtomicU64,
    damaged: AtomicU64,
    foreign: AtomicU64,
    failures: [[AtomicU64; 3]; 2],
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreSnapshot {
    /// Answers: the bundle of this very version of an image, one of another version, none.
    pub found: u64,
    pub older: u64,
    pub not_found: u64,
    /// Bundles stored, those in whose place another replica's was, and refused ones that were replaced.
    pub saved: u64,
    pub already_there: u64,
    pub replaced: u64,
    /// Stored bundles that were refused.
    pub too_large: u64,
    pub signature: u64,
    pub damaged: u64,
    pub foreign: u64,
    /// Attempts that failed, by task ([`Task`]) and reason ([`REASONS`]).
    pub failures: [[u64; 3]; 2],
}

/// Why attempts fail.
pub const REASONS: [&str; 3] = ["timeout", "denied", "unavailable"];
pub const TASKS: [Task; 2] = [Task::Find, Task::Save];

impl Counters {
    pub(super) fn refused(&self, cause: Cause) {
        let counter = match cause {
            Cause::TooLarge => &self.too_large,
            Cause::Signature => &self.signature,
            Cause::Damaged => &self.damaged,
            Cause::Foreign => &self.foreign,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(super) fn failed(&self, task: Task, failure: &Failure) {
        use object_store::Error::{PermissionDenied, Unauthenticated};
        let reason = match failure {
            Failure::TooLate(_) => 0,
            Failure::Store(PermissionDenied { .. } | Unauthenticated { .. }) => 1,
            _ => 2,
        };
        self.failures[task as usize][reason].fetch_add(1, Relaxed);
    }

    pub(super) fn snapshot(&self) -> StoreSnapshot {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        StoreSnapshot {
            found: read(&self.found),
            older: read(&self.older),
            not_found: read(&self.not_found),
            saved: read(&self.saved),
            already_there: read(&self.already_there),
            replaced: read(&self.replaced),
            too_large: read(&self.too_large),
            signature: read(&self.signature),
            damaged: read(&self.damaged),
            foreign: read(&self.foreign),
            failures: [0, 1]
                .map(|task: usize| [0, 1, 2].map(|why: usize| read(&self.failures[task][why]))),
        }
    }
}
