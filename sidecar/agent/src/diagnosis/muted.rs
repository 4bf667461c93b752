//! What an operator does not want to be told for a while.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnosis::incident::Incident;
use crate::diagnosis::report::{Diagnosis, IncidentState};
use crate::diagnosis::signal::Cause;
use crate::record::{ContainerIndex, Nanos};

/// Incidents at a time.
pub(crate) const MOST: usize = 32;

/// Silence about one incident, and about others that have no other cause.
#[derive(Debug)]
pub(crate) struct Mute {
    pub(crate) incident_id: String,
    pub(crate) since_ns: Nanos,
    pub(crate) until_ns: Nanos,
    causes: BTreeSet<(ContainerIndex, Cause)>,
    /// Diagnoses and affected calls that were not told.
    pub(crate) withheld: u64,
    /// Ends of incidents that were told of before.
    pub(crate) ends: BTreeMap<String, Diagnosis>,
}

impl Mute {
    pub(crate) fn new(incident: &Incident, since_ns: Nanos, until_ns: Nanos) -> Self {
        Mute {
            incident_id: incident.id.clone(),
            since_ns,
            until_ns,
            causes: incident.causes(),
            withheld: 0,
            ends: BTreeMap::new(),
        }
    }

    pub(crate) fn covers(&self, incident: &Incident) -> bool {
        let causes = incident.causes();
        self.incident_id == incident.id || !causes.is_empty() && causes.is_subset(&self.causes)
    }

    /// Keeps a diagnosis back. `told`: its incident was told of before.
    pub(crate) fn withhold(&mut self, diagnosis: Diagnosis, told: bool) {
        self.withheld += 1;
        let id = &diagnosis.incident_id;
        if diagnosis.state != IncidentState::Resolved {
            self.ends.remove(id);
        } else if told && (self.ends.len() < MOST || self.ends.contains_key(id)) {
            self.ends.insert(id.clone(), diagnosis);
        }
    }
}
