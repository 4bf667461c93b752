//! What is followed of single processes and threads over time.

use stethos_patterns::WindowCall;

use crate::diagnosis::pod::Pod;
use crate::diagnosis::reference::Reference;
use crate::diagnosis::signal::Signal;
use crate::diagnosis::signals::Scene;
use crate::diagnosis::signals::descriptors::Descriptors;
use crate::diagnosis::signals::locks::Locks;
use crate::diagnosis::signals::miners::Miners;
use crate::record::{ContainerIndex, Lifecycle, LifecycleEvent, Nanos, ThreadsSnapshot};

#[derive(Debug, Default)]
pub(crate) struct Processes {
    descriptors: Descriptors,
    locks: Locks,
    miners: Miners,
}

impl Processes {
    /// Judges one finished call.
    pub(crate) fn judge(&mut self, scene: &Scene<'_>, call: &WindowCall) -> Vec<Signal> {
        self.miners.observe(scene, call);
        let descriptors = self.descriptors.judge(scene, call);
        descriptors
            .into_iter()
            .chain(self.locks.judge(scene, call))
            .collect()
    }

    pub(crate) fn on_threads<'a>(
        &mut self,
        snapshot: &ThreadsSnapshot,
        model: impl Fn(ContainerIndex) -> Option<&'a Reference>,
        is_unexpected: impl Fn(u32) -> bool,
        limit: f64,
    ) -> Vec<Signal> {
        let mut signals = self.locks.stuck(snapshot, &model);
        let miners = self.miners.judge(snapshot, model, is_unexpected, limit);
        signals.extend(miners);
        signals
    }

    /// Whether the process, started a short time ago, may turn out to be a miner.
    pub(crate) fn may_mine(&self, pid: u32, now: Nanos) -> bool {
        self.miners.may_mine(pid, now)
    }

    pub(crate) fn on_lifecycle(&mut self, record: &Lifecycle, pod: &Pod) {
        self.miners.on_lifecycle(record, pod);
        let other = match record.event {
            LifecycleEvent::Exec { .. } => true,
            LifecycleEvent::Exit { group_dead, .. } => group_dead,
            _ => false,
        };
        if other {
            self.descriptors.forget(record.pid);
            self.locks.forget(record.pid);
        }
    }

    pub(crate) fn restless(&self) -> bool {
        self.locks.restless() || self.descriptors.restless()
    }

    /// Calls are only counted from now on, or shipped whole again.
    pub(crate) fn rest(&mut self) {
        self.descriptors.rest();
        self.locks.rest();
    }

    /// Forgets what has been counted in a container whose incident is over.
    pub(crate) fn reset(&mut self, container: ContainerIndex) {
        self.locks.reset(container);
    }
}
