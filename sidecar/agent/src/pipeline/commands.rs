//! What an operator says about incidents.

use std::{collections::BTreeMap, time::Duration};

use thiserror::Error;

use super::{Outcome, Pipeline};
use crate::{
    accepted::Full,
    diagnosis::{Refused, report},
    learning::Trouble,
    record::{ContainerIndex, Nanos},
};

/// Why nothing was done.
#[derive(Debug, Error)]
pub enum CommandError {
    #[error("nothing is diagnosed here: diagnosis.enabled is false")]
    NoDiagnosis,
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("{container}: {full}")]
    Full { container: String, full: Full },
    #[error("nothing of incident {0} can be told from other things well enough to be accepted")]
    Nameless(String),
}

impl Pipeline {
    /// What an incident consisted of is normal from now on; says what was done.
    pub async fn accept(
        &mut self,
        id: &str,
        outcome: &mut Outcome,
    ) -> Result<String, CommandError> {
        let engine = self.engine.as_ref().ok_or(CommandError::NoDiagnosis)?;
        let acceptance = engine.acceptance(id)?;
        if acceptance.containers.is_empty() {
            return Err(CommandError::Nameless(acceptance.incident_id));
        }
        let mut all = BTreeMap::new();
        for (container, more) in &acceptance.containers {
            let merged = engine.accepted(*container).merged(more);
            let merged = merged.map_err(|full| CommandError::Full {
                container: self.name(*container),
                full,
            })?;
            all.insert(*container, merged);
        }
        let id = &acceptance.incident_id;
        let names: Vec<String> = all.keys().map(|container| self.name(*container)).collect();
        let mut said = format!(
            "Incident {id} ({}) is accepted as normal in {}",
            report::name(acceptance.class),
            names.join(", ")
        );
        said.push_str(match acceptance.open {
            true => " and closed.",
            false => "; it was over already.",
        });
        for (container, accepted) in all {
            let accepting = self
                .learning
                .as_mut()
                .map(|learning| learning.accept(container, accepted.clone()));
            if let Some(engine) = &mut self.engine {
                engine.set_accepted(container, accepted);
            }
            let Some(accepting) = accepting else { continue };
            let name = self.name(container);
            if let Some(reason) = accepting.unkept {
                said.push_str(&format!(" Of {name} it is not kept yet: {reason}."));
            }
            if let Some(change) = accepting.change {
                said.push_str(&format!(
                    " {name} is learned anew; its present models are in force until that is done."
                ));
                self.apply(&change).await;
                outcome.changes.push(change);
            }
        }
        if let Some(engine) = &mut self.engine {
            engine.close_accepted(id);
        }
        self.publish(outcome);
        self.direct(None, outcome);
        Ok(said)
    }

    /// Says nothing about an incident, nor about others of the same cause, for a while.
    pub fn mute(&mut self, id: &str, lasts: Duration) -> Result<String, CommandError> {
        let engine = self.engine.as_mut().ok_or(CommandError::NoDiagnosis)?;
        let nanos = u64::try_from(lasts.as_nanos()).unwrap_or(Nanos::MAX);
        let muted = engine.mute(id, nanos)?;
        let seconds = lasts.as_secs();
        let lasts = match seconds {
            whole if whole % 3600 == 0 => format!("{} h", whole / 3600),
            whole if whole % 60 == 0 => format!("{} min", whole / 60),
            seconds => format!("{seconds} s"),
        };
        Ok(format!(
            "Incident {} and others of its cause are muted for {lasts}, or until the sidecar ends: {}",
            muted.incident_id, muted.message
        ))
    }

    /// Tells learning which incidents are open. A container that learns while models of another
    /// version of its image are in force may behave differently: that alone is no fault.
    pub(super) fn set_aside(&mut self) {
        let (Some(engine), Some(learning)) = (&self.engine, &mut self.learning) else {
            return;
        };
        let mut open: BTreeMap<ContainerIndex, Trouble> = BTreeMap::new();
        for incident in engine.open_incidents() {
            for container in incident.containers {
                let expected = incident.vague
                    && self.still_learning.contains(&container)
                    && !engine.accepted(container).relearning;
                if !expected {
                    let trouble = open.entry(container).or_insert(Trouble {
                        since_ns: incident.onset_ns,
                        confirmed: false,
                    });
                    trouble.since_ns = incident.onset_ns.min(trouble.since_ns);
                    trouble.confirmed |= incident.confirmed;
                }
            }
        }
        learning.on_incidents(&open);
    }
}
