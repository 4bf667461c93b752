//! How far one container has got.

use stethos_bundle::Bundle;

use super::{
    Settings,
    held::Held,
    kept::Kept,
    progress::{Progress, Ready},
    resuming::Earlier,
    shared::place::Place,
    store::Key,
};
use crate::record::{ContainerInfo, Nanos};

/// A container whose first process is not told of for this long is learned without a place among
/// the bundles on disk, until it is.
pub(super) const FIRST_PROCESS_NS: u64 = 10_000_000_000;

pub(super) struct Container {
    pub(super) info: ContainerInfo,
    /// When it was first heard of.
    since_ns: Nanos,
    /// What its bundles are kept under: known once a process of it was seen.
    pub(super) key: Option<Key>,
    /// The same in the store that replicas share.
    pub(super) place: Option<Place>,
    pub(super) phase: Phase,
    /// The model in force: its own, or while it learns one of another version of its image.
    pub(super) model: Option<String>,
    /// Models of another version of its image are in force.
    pub(super) older: bool,
    /// A fault was confirmed while it learned.
    pub(super) spoilt: bool,
    /// Learned models in force that wait for the key.
    pub(super) keyless: Option<Bundle>,
    /// When the shared store is asked again.
    pub(super) ask_at_ns: Option<Nanos>,
    /// Times of which nothing is learned.
    pub(super) held: Held,
    pub(super) earlier: Earlier,
    /// When its training began.
    pub(super) training_ns: Nanos,
    pub(super) kept: Kept,
    /// That is not on disk yet.
    pub(super) kept_late: bool,
}

pub(super) enum Phase {
    /// No process was seen yet.
    New,
    Learning(Box<Progress>),
    /// A training runs, or failed and is tried again at `until_ns`.
    Training {
        progress: Box<Progress>,
        until_ns: Option<Nanos>,
    },
    /// A new version of its image is learned, and more replicas have to see it healthy.
    Proving,
    Watching,
}

impl Phase {
    pub(super) fn learning(settings: &Settings) -> Self {
        Phase::Learning(Box::new(Progress::new(settings.bounds)))
    }

    pub(super) fn is_new(&self) -> bool {
        matches!(self, Phase::New)
    }

    pub(super) fn is_training(&self) -> bool {
        matches!(self, Phase::Training { .. })
    }

    /// True while what a container does is still wanted for its training.
    pub(super) fn is_learning(&self) -> bool {
        !matches!(self, Phase::Watching | Phase::Proving)
    }

    pub(super) fn is_proving(&self) -> bool {
        matches!(self, Phase::Proving)
    }

    pub(super) fn progress(&mut self) -> Option<&mut Progress> {
        match self {
            Phase::Learning(progress) | Phase::Training { progress, .. } => Some(progress),
            Phase::New | Phase::Proving | Phase::Watching => None,
        }
    }

    /// Calls and windows seen until now; none when nothing is learned.
    pub(super) fn start_training(&mut self) -> Option<(u64, u64)> {
        let progress = match std::mem::replace(self, Phase::Watching) {
            Phase::Learning(progress) | Phase::Training { progress, .. } => progress,
            other => {
                *self = other;
                return None;
            }
        };
        let seen = (progress.calls(), progress.windows());
        *self = Phase::Training {
            progress,
            until_ns: None,
        };
        Some(seen)
    }

    /// The training failed: what was learned stays.
    pub(super) fn rest(&mut self, until: Nanos) {
        if let Phase::Training { until_ns, .. } = self {
            *until_ns = Some(until);
        }
    }
}

impl Container {
    pub(super) fn new(info: ContainerInfo) -> Self {
        Self {
            since_ns: info.at_ns,
            info,
            key: None,
            place: None,
            phase: Phase::New,
            model: None,
            older: false,
            spoilt: false,
            keyless: None,
            ask_at_ns: None,
            held: Held::default(),
            earlier: Earlier::default(),
            training_ns: 0,
            kept: Kept::default(),
            kept_late: false,
        }
    }

    /// Whether it has waited for its first process long enough.
    pub(super) fn has_waited(&self, now_ns: Nanos) -> bool {
        self.phase.is_new() && now_ns.saturating_sub(self.since_ns) >= FIRST_PROCESS_NS
    }

    /// Whether the container has been seen enough now.
    pub(super) fn due(&mut self, now_ns: Nanos) -> Option<Ready> {
        if self.held.is_open() || self.earlier.is_read {
            return None;
        }
        match &mut self.phase {
            Phase::Learning(progress) => progress.on_tick(now_ns),
            Phase::Training { progress, until_ns } => {
                let ready = progress.on_tick(now_ns);
                ready.filter(|_| until_ns.is_some_and(|until_ns| until_ns <= now_ns))
            }
            Phase::New | Phase::Proving | Phase::Watching => None,
        }
    }
}
