//! What containers use of the machine, judged second by second, whatever is shipped of their calls.

use std::collections::BTreeMap;

use super::contention::{Contention, Second};
use super::memory::Memory;
use super::throttling::Throttling;
use super::{MAX_KEYS, RESTLESS};
use crate::diagnosis::reference::Reference;
use crate::diagnosis::signal::{Kind, Signal, Standing};
use crate::record::{ContainerIndex, ContainerResources};
use crate::resources::Meter;

/// Calls a second, in multiples of the learned rate, beyond which the load explains much.
pub(super) const MORE_LOAD: f64 = 2.0;

/// What one look says.
pub(crate) enum Judged {
    Signal(Signal),
    /// What this kind of signal is about is as learned.
    Normal(Kind),
    Unclear,
}

/// What evidence is worth: enough to open an incident, or to say what one comes from.
pub(super) fn standing(evidence: f64, limit: f64) -> Option<Standing> {
    match evidence {
        evidence if evidence >= limit => Some(Standing::Opens),
        evidence if evidence >= RESTLESS => Some(Standing::Symptom),
        _ => None,
    }
}

#[derive(Debug, Default)]
pub(crate) struct Resources {
    meter: Meter,
    throttling: Throttling,
    contention: Contention,
    memory: Memory,
    /// Looks since the last second was judged.
    looks: BTreeMap<ContainerIndex, ContainerResources>,
}

impl Resources {
    pub(crate) fn look(&mut self, resources: &ContainerResources) {
        if self.looks.len() < MAX_KEYS {
            self.looks.insert(resources.container, *resources);
        }
    }

    /// Judges the last looks; `load` as in [`super::Scene`].
    pub(crate) fn judge<'a>(
        &mut self,
        model: impl Fn(ContainerIndex) -> Option<&'a Reference>,
        load: impl Fn(ContainerIndex) -> f64,
        limit: f64,
    ) -> Vec<(ContainerIndex, Judged)> {
        let mut all = Vec::new();
        let mut seconds = Vec::new();
        for (container, look) in std::mem::take(&mut self.looks) {
            let used = self.meter.used(&look);
            let Some((used, model)) = used.zip(model(container)) else {
                continue;
            };
            let Some(learned) = model.resources() else {
                continue;
            };
            let load = load(container);
            let most = look.memory.and_then(|memory| memory.limit);
            let throttled = self
                .throttling
                .judge(container, &used, learned, load, limit);
            let climbs = self
                .memory
                .judge(container, &used, most, learned, load, limit);
            all.extend([(container, throttled), (container, climbs)]);
            seconds.push(Second {
                container,
                used,
                learned,
                load,
            });
        }
        all.extend(self.contention.judge(&seconds, limit));
        all
    }

    pub(crate) fn reset(&mut self, container: ContainerIndex) {
        self.throttling.reset(container);
        self.contention.reset(container);
        self.memory.reset(container);
    }
}
