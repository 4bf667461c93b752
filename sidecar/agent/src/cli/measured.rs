//! Metrics of the containers, from what came of each batch.

use std::{collections::HashMap, sync::Arc};

use stethos_patterns::names;

use crate::{
    export::{
        Resource,
        metrics::{ContainerMetrics, Meters},
    },
    pipeline::{Outcome, Pipeline},
    record::ContainerIndex,
};

/// Instruments by container. They are made anew when more becomes known of the application.
#[derive(Default)]
pub(super) struct Measured(HashMap<ContainerIndex, (Arc<Resource>, ContainerMetrics)>);

impl Measured {
    pub(super) fn take(&mut self, outcome: &Outcome, pipeline: &mut Pipeline, meters: &Meters) {
        for ((container, errno), calls) in &outcome.errors {
            self.of(*container, pipeline, meters)
                .errors(names::errno_name(*errno), *calls);
        }
        for (container, (sum, windows)) in &outcome.scores {
            self.of(*container, pipeline, meters)
                .surprise(sum / *windows as f64);
        }
        for stability in &outcome.stability {
            self.of(stability.container, pipeline, meters)
                .stability(stability.stability);
        }
        for (container, account) in outcome.tick.iter().flat_map(|tick| &tick.accounts) {
            self.of(*container, pipeline, meters).account(account);
        }
    }

    fn of(
        &mut self,
        container: ContainerIndex,
        pipeline: &mut Pipeline,
        meters: &Meters,
    ) -> &mut ContainerMetrics {
        let resource = pipeline.resource(container);
        let known = self
            .0
            .entry(container)
            .or_insert_with(|| (resource.clone(), meters.container(&resource)));
        if !Arc::ptr_eq(&known.0, &resource) && known.0 != resource {
            *known = (resource.clone(), meters.container(&resource));
        }
        &mut known.1
    }
}
