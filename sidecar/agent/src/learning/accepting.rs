//! What an operator accepts: kept beside the bundle, and learned where only models can express it.

use std::collections::BTreeMap;

use super::{
    Change, Learning,
    container::{Container, Phase},
    held::Held,
    kept::Kept,
    resuming::Earlier,
};
use crate::{
    accepted::Accepted,
    record::{ContainerIndex, Nanos},
};

/// What came of accepting something in one container.
#[derive(Debug)]
pub struct Accepting {
    pub change: Option<Change>,
    /// Why a restart of the sidecar forgets it.
    pub unkept: Option<String>,
}

/// Incidents of a container that are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// First affected call.
    pub since_ns: Nanos,
    /// One is confirmed.
    pub confirmed: bool,
}

impl Learning {
    /// What is accepted in a container.
    pub fn accepted(&self, index: ContainerIndex) -> Accepted {
        let container = self.containers.get(&index);
        container.map_or_else(Accepted::default, |container| {
            container.kept.accepted.clone()
        })
    }

    /// From now on this is accepted, all in all. Where it asks for that, a new learning begins.
    pub fn accept(&mut self, index: ContainerIndex, accepted: Accepted) -> Accepting {
        let mut change = None;
        if let Some(container) = self.containers.get_mut(&index) {
            let begins = accepted.relearning && !container.phase.is_learning();
            container.kept.accepted = accepted;
            if begins {
                if !container.older {
                    container.kept.supersedes = container.model.clone();
                }
                container.phase = Phase::learning(&self.settings);
                container.held = Held::before(self.now_ns);
                change = container.model.clone().map(|id| Change::Relearning {
                    container: index,
                    id,
                    bundle: None,
                });
            }
        }
        Accepting {
            change,
            unkept: self.keep_accepted(index).err(),
        }
    }

    /// The incidents that are open now, by container. Nothing is learned from that time.
    pub fn on_incidents(&mut self, open: &BTreeMap<ContainerIndex, Trouble>) {
        let now = self.now_ns;
        for (index, container) in &mut self.containers {
            let Some(trouble) = open.get(index) else {
                container.held.release(now);
                continue;
            };
            container.held.hold(trouble.since_ns, now);
            container.spoilt |= trouble.confirmed && container.phase.is_learning();
            let training = container.phase.is_training();
            let spoilt = training && trouble.since_ns < container.training_ns;
            if spoilt && let Some(training) = self.running.remove(index) {
                training.abort();
                container.phase.rest(now);
                let container = &container.info.name;
                tracing::info!(container, "training is put off: a fault began before it");
            }
        }
    }

    /// Reads what is accepted in a container that has become known.
    pub(super) fn recall(&mut self, index: ContainerIndex) {
        let Some(container) = self.containers.get_mut(&index) else {
            return;
        };
        let Some(key) = &container.key else { return };
        let Kept {
            accepted,
            supersedes,
        } = self.store.kept(key).unwrap_or_else(|error| {
            tracing::warn!(%error, "what was accepted is not known any more");
            Kept::default()
        });
        if accepted.is_empty() && supersedes.is_none() {
            return;
        }
        // What was accepted before the container had its name counts as well.
        if let Ok(all) = accepted.merged(&container.kept.accepted) {
            container.kept.accepted = all;
        }
        container.kept.supersedes = container.kept.supersedes.take().or(supersedes);
    }

    /// A container has models that were learned since, here or by another replica.
    pub(super) fn relearned(&mut self, index: ContainerIndex) {
        self.change_kept(index, |container| {
            container.held = Held::default();
            container.earlier = Earlier::default();
            std::mem::take(&mut container.kept.accepted.relearning)
        });
    }

    /// The shared store has what was learned anew, or what goes before it.
    pub(super) fn superseded(&mut self, index: ContainerIndex) {
        self.change_kept(index, |container| {
            !container.phase.is_learning() && container.kept.supersedes.take().is_some()
        });
    }

    /// `change` says whether it has changed what is kept.
    fn change_kept(&mut self, index: ContainerIndex, change: impl FnOnce(&mut Container) -> bool) {
        if self.containers.get_mut(&index).is_some_and(change)
            && let Err(reason) = self.keep_accepted(index)
        {
            tracing::warn!(reason, "what is accepted is not kept yet");
        }
    }

    /// An error is why it could not be kept; it is tried again.
    pub(super) fn keep_accepted(&mut self, index: ContainerIndex) -> Result<(), String> {
        let Some(container) = self.containers.get_mut(&index) else {
            return Err("the container is not known".to_owned());
        };
        container.kept_late = true;
        let key = container.key.as_ref();
        let key = key.ok_or_else(|| "the container's name is not known yet".to_owned())?;
        let kept = self.store.keep_accepted(key, &container.kept);
        kept.map_err(|error| error.to_string())?;
        container.kept_late = false;
        Ok(())
    }

    /// What could not be kept before.
    pub(super) fn keep_late(&mut self) {
        let late: Vec<_> = self
            .containers
            .iter()
            .filter(|(_, container)| container.kept_late && container.key.is_some())
            .map(|(index, _)| *index)
            .collect();
        for index in late {
            match self.keep_accepted(index) {
                Ok(()) => tracing::info!("what was accepted is kept now"),
                Err(reason) => tracing::debug!(reason, "what was accepted is not kept yet"),
            }
        }
    }
}
