//! What an operator says about incidents.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::{Board, affected, described};
use crate::accepted::Accepted;
use crate::diagnosis::acceptance::{self, Acceptance};
use crate::diagnosis::classify::classify;
use crate::diagnosis::figures::{plural, time};
use crate::diagnosis::incident::Incident;
use crate::diagnosis::muted::{self, Mute};
use crate::diagnosis::pod::Pod;
use crate::diagnosis::report::{self, IncidentState, Report};
use crate::diagnosis::wording;
use crate::record::{ContainerIndex, Nanos};

/// Incidents that an error names.
const NAMED: usize = 8;

/// Why nothing can be said about an incident.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    #[error("no incident {id:?} is known; known are: {known}")]
    Unknown { id: String, known: String },
    #[error("{id:?} is the beginning of several incidents: {matching}")]
    Ambiguous { id: String, matching: String },
    #[error("{} incidents are muted, no more can be", muted::MOST)]
    TooMany,
}

/// An incident that is muted now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Muted {
    pub incident_id: String,
    pub message: String,
}

impl Board {
    /// The incident that was told of whose id begins so. Those that are over are remembered for a
    /// while.
    fn told(&self, id: &str) -> Result<&Incident, Refused> {
        let all = || {
            let open = self.incidents.iter().rev();
            open.chain(self.past.iter().rev())
                .filter(|incident| incident.class().is_some())
        };
        let wanted = id.to_ascii_lowercase();
        let fits = |incident: &&Incident| !wanted.is_empty() && incident.id.starts_with(&wanted);
        let mut matching = all().filter(fits);
        match (matching.next(), matching.next()) {
            (Some(incident), None) => Ok(incident),
            (Some(_), Some(_)) => Err(Refused::Ambiguous {
                id: id.to_owned(),
                matching: names(all().filter(fits)),
            }),
            (None, _) => Err(Refused::Unknown {
                id: id.to_owned(),
                known: names(all()),
            }),
        }
    }

    /// What accepting an incident makes normal.
    pub(crate) fn acceptance(&self, id: &str, pod: &Pod) -> Result<Acceptance, Refused> {
        let incident = self.told(id)?;
        let classified = classify(incident, pod);
        let root = classified.map_or(0, |classified| classified.root.0);
        let class = incident.class().unwrap_or_default();
        Ok(Acceptance::of(incident, class, root))
    }

    /// Closes an incident that is accepted, if it is open; gives its containers.
    pub(crate) fn close_accepted(
        &mut self,
        id: &str,
        now: Nanos,
        pod: &Pod,
        stability: impl Fn(ContainerIndex) -> Option<f64>,
    ) -> BTreeSet<ContainerIndex> {
        self.mutes.retain(|mute| mute.incident_id != id);
        self.past.retain(|incident| incident.id != id);
        let Some(index) = self.incidents.iter().position(|i| i.id == id) else {
            return BTreeSet::new();
        };
        let mut incident = self.incidents.remove(index);
        let mut reports = Vec::new();
        if incident.is_open() {
            reports.extend(affected(&mut incident, now, u32::MAX));
            let state = IncidentState::Resolved;
            if let Some(mut diagnosis) = described(&incident, state, now, &stability, pod) {
                diagnosis.message = wording::accepted(&diagnosis.message);
                reports.push(Report::Diagnosis(diagnosis));
            }
        }
        self.push(reports);
        incident.containers()
    }

    /// Says nothing about an incident, nor about others of the same cause, until `until_ns`.
    pub(crate) fn mute(
        &mut self,
        id: &str,
        now: Nanos,
        until_ns: Nanos,
        pod: &Pod,
    ) -> Result<Muted, Refused> {
        let incident = self.told(id)?;
        let mute = Mute::new(incident, now, until_ns);
        let state = match incident.is_open() {
            true => IncidentState::Confirmed,
            false => IncidentState::Resolved,
        };
        let described = described(incident, state, now, &|_| None, pod);
        let muted = Muted {
            incident_id: incident.id.clone(),
            message: described.map_or_else(String::new, |diagnosis| diagnosis.message),
        };
        let room = self.mutes.len() < muted::MOST;
        let same = |known: &&mut Mute| known.incident_id == muted.incident_id;
        match self.mutes.iter_mut().find(same) {
            Some(known) => known.until_ns = until_ns,
            None if room => self.mutes.push(mute),
            None => return Err(Refused::TooMany),
        }
        Ok(muted)
    }

    /// Ends mutes whose time is over: says what still goes on, and the end of what was told before.
    pub(super) fn end_mutes(
        &mut self,
        now: Nanos,
        pod: &Pod,
        stability: &impl Fn(ContainerIndex) -> Option<f64>,
    ) {
        let (over, on) = std::mem::take(&mut self.mutes)
            .into_iter()
            .partition(|mute: &Mute| mute.until_ns <= now);
        self.mutes = on;
        let mut reports = Vec::new();
        for mut mute in over {
            let lasted = mute.until_ns.saturating_sub(mute.since_ns);
            let note = format!(
                "{}; {} withheld",
                time(lasted),
                plural(mute.withheld, "report")
            );
            for incident in &mut self.incidents {
                let muted_on = self.mutes.iter().any(|other| other.covers(incident));
                let announced = incident.is_open() && incident.class().is_some();
                if !announced || !mute.covers(incident) || muted_on {
                    continue;
                }
                mute.ends.remove(&incident.id);
                let state = incident.state().unwrap_or(IncidentState::Suspected);
                if let Some(mut diagnosis) = described(incident, state, now, stability, pod) {
                    diagnosis.message = format!("{} Muted for {note}.", diagnosis.message);
                    reports.push(Report::Diagnosis(diagnosis));
                    incident.told = true;
                }
            }
            for (_, mut diagnosis) in std::mem::take(&mut mute.ends) {
                diagnosis.message = format!("{} Muted for {note}.", diagnosis.message);
                reports.push(Report::Diagnosis(diagnosis));
            }
        }
        self.push(reports);
    }

    /// Forgets incidents that were not told of yet and turn out to be accepted, once paths and peers
    /// are known.
    pub(super) fn drop_accepted(&mut self, accepted: &BTreeMap<ContainerIndex, Accepted>) {
        self.incidents.retain(|incident| {
            incident.class().is_some() || !acceptance::is_accepted(incident, accepted)
        });
    }
}

fn names<'a>(incidents: impl Iterator<Item = &'a Incident>) -> String {
    let named: Vec<String> = incidents
        .take(NAMED)
        .map(|incident| {
            let class = report::name(incident.class().unwrap_or_default());
            let over = if incident.is_open() { "" } else { ", over" };
            format!("{} ({class}{over})", incident.id)
        })
        .collect();
    match named.is_empty() {
        true => "none".to_owned(),
        false => named.join(", "),
    }
}
