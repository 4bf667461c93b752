//! What an operator says about incidents, and what is accepted.

use super::Engine;
use crate::accepted::Accepted;
use crate::diagnosis::acceptance::{self, Acceptance};
use crate::diagnosis::board::operator::{Muted, Refused};
use crate::diagnosis::reference::Reference;
use crate::diagnosis::signal::Signal;
use crate::record::{ContainerIndex, Nanos};

impl Engine {
    /// What accepting an incident makes normal; `id` may be the beginning of its id.
    pub fn acceptance(&self, id: &str) -> Result<Acceptance, Refused> {
        self.board.acceptance(id, &self.pod)
    }

    /// Closes an incident whose acceptance is in force.
    pub fn close_accepted(&mut self, id: &str) {
        let stability = &self.stability;
        let over = self
            .board
            .close_accepted(id, self.now, &self.pod, |c| stability.last(c));
        self.reset(over);
    }

    /// From now on this is accepted in a container, whichever models are in force.
    pub fn set_accepted(&mut self, container: ContainerIndex, accepted: Accepted) {
        if let Some(reference) = self.models.remove(&container) {
            let reference = reference.accepting(accepted.clone(), &self.config);
            self.models.insert(container, reference);
        }
        self.accepted.insert(container, accepted);
    }

    pub fn accepted(&self, container: ContainerIndex) -> Accepted {
        self.accepted.get(&container).cloned().unwrap_or_default()
    }

    /// Says nothing about an incident, nor about others of the same cause, for `lasts_ns`.
    pub fn mute(&mut self, id: &str, lasts_ns: Nanos) -> Result<Muted, Refused> {
        let until_ns = self.now.saturating_add(lasts_ns);
        self.board.mute(id, self.now, until_ns, &self.pod)
    }

    /// The open incidents.
    pub fn open_incidents(&self) -> impl Iterator<Item = OpenIncident> {
        self.board.open_incidents()
    }

    pub(super) fn reference(
        &self,
        container: ContainerIndex,
        model: crate::diagnosis::ContainerModel,
    ) -> Reference {
        let accepted = self.accepted(container);
        Reference::with(model, accepted, &self.config)
    }

    /// True when a signal shows nothing but what is accepted. What is slow is compared with a raised
    /// ceiling instead.
    pub(super) fn is_accepted(&self, signal: &Signal) -> bool {
        let Some(accepted) = self.accepted.get(&signal.container) else {
            return false;
        };
        if acceptance::only_models_say(&signal.kind) {
            return accepted.relearning;
        }
        let process = self.pod.process(signal.pid);
        let executable = process.map_or("", |process| process.executable.as_str());
        !signal.kind.is_slow()
            && acceptance::thing(&signal.kind, signal.subject.as_deref(), executable)
                .is_some_and(|thing| accepted.has(&thing))
    }
}

/// An incident that is not over.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenIncident {
    pub containers: std::collections::BTreeSet<ContainerIndex>,
    /// First affected call.
    pub onset_ns: Nanos,
    pub confirmed: bool,
    /// Nothing but a different behaviour: no error, no slowness, no start or end of a process.
    pub vague: bool,
}
