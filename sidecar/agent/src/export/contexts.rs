//! The trace context of a whole diagnosis, from those of its affected calls.

use std::collections::{HashMap, VecDeque};

use crate::diagnosis::report::{IncidentState, Report};
use crate::trace::Context;

use super::Published;

const MAX_INCIDENTS: usize = 1024;

/// Remembers one context per incident. Pure.
#[derive(Debug, Default)]
pub struct Contexts {
    known: HashMap<String, Context>,
    order: VecDeque<String>,
}

impl Contexts {
    /// Gives every diagnosis of the batch without a parent the context of its incident's first
    /// affected call that has one, from this batch or an earlier one: the log record and the JSON
    /// line of an incident then name the same trace throughout its life.
    pub fn complete(&mut self, batch: &mut [Published]) {
        for published in batch.iter() {
            if let Report::Affected(call) = &published.report {
                self.remember(&call.incident_id, &published.context);
            }
        }
        for published in batch {
            let Report::Diagnosis(diagnosis) = &published.report else {
                continue;
            };
            self.remember(&diagnosis.incident_id, &published.context);
            if let Some(known) = self.known.get(&diagnosis.incident_id) {
                published.context = known.clone();
            }
            if diagnosis.state == IncidentState::Resolved {
                self.known.remove(&diagnosis.incident_id);
                self.order.retain(|id| *id != diagnosis.incident_id);
            }
        }
    }

    /// Takes what is known of one of the incident's calls, which may be reported later: a parent stands
    /// over links, and what came first over what comes later.
    pub fn remember(&mut self, incident: &str, context: &Context) {
        let rank = |c: &Context| (c.parent.is_some(), !c.links.is_empty());
        match self.known.get_mut(incident) {
            Some(known) if rank(context) > rank(known) => *known = context.clone(),
            Some(_) => {}
            None => {
                if self.order.len() == MAX_INCIDENTS
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.known.remove(&oldest);
                }
                self.order.push_back(incident.to_owned());
                self.known.insert(incident.to_owned(), context.clone());
            }
        }
    }
}
