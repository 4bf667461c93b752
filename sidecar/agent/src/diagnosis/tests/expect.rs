//! What a test asks of the shop's reports.

use std::collections::BTreeSet;

use super::shop::*;
use crate::diagnosis::report::{Diagnosis, FaultClass, IncidentState, Report};

impl Shop {
    pub(super) fn diagnoses(&self) -> Vec<&Diagnosis> {
        let diagnoses = self.reports.iter().filter_map(|report| match report {
            Report::Diagnosis(diagnosis) => Some(diagnosis),
            Report::Affected(_) => None,
        });
        diagnoses.collect()
    }

    /// For messages of failing tests.
    pub(super) fn brief(&self) -> String {
        let lines = self.diagnoses().into_iter().map(|d| {
            format!(
                "{} +{} ms {:?} {:?} {:.2} {} ended {:?}\n    {}\n",
                &d.incident_id[..4],
                (d.observed_ns - d.onset_ns) / MS,
                d.state,
                d.class,
                d.confidence,
                d.culprit,
                d.ended_ns.map(|end| (end - d.onset_ns) / MS),
                d.evidence.join("\n    "),
            )
        });
        format!("\n{}", lines.collect::<String>())
    }

    pub(super) fn has_confirmed(&self) -> bool {
        let confirmed = |d: &&Diagnosis| d.state == IncidentState::Confirmed;
        self.diagnoses().iter().any(confirmed)
    }

    /// The only incident's last confirmed diagnosis.
    pub(super) fn confirmed(&self) -> &Diagnosis {
        let all = self.diagnoses();
        let ids: BTreeSet<_> = all.iter().map(|d| d.incident_id.as_str()).collect();
        assert_eq!(ids.len(), 1, "one incident: {}", self.brief());
        let confirmed = all
            .iter()
            .rev()
            .find(|d| d.state == IncidentState::Confirmed);
        confirmed.unwrap_or_else(|| panic!("not confirmed: {}", self.brief()))
    }

    /// Asserts one incident of this class with this culprit, resolved at the end.
    pub(super) fn expect(&self, class: FaultClass, culprit: &str) -> &Diagnosis {
        let diagnosis = self.confirmed();
        assert_eq!(
            (diagnosis.class, diagnosis.culprit.as_str()),
            (class, culprit),
            "{}",
            self.brief()
        );
        assert!(diagnosis.confidence >= 0.7, "{}", self.brief());
        let last = self.diagnoses().last().map(|d| d.state);
        assert_eq!(last, Some(IncidentState::Resolved), "{}", self.brief());
        diagnosis
    }
}
