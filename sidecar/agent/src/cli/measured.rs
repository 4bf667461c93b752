//! Metrics of the containers, from what came of each batch, and of the plugins.

use std::{collections::HashMap, sync::Arc};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Meter},
};
use stethos_patterns::names;

use crate::{
    export::{
        Resource,
        metrics::{ContainerMetrics, Meters},
    },
    pipeline::{Outcome, Pipeline},
    plugin::{Plugin, PluginSnapshot},
    record::ContainerIndex,
};

#[derive(Default)]
pub(super) struct Measured {
    /// Instruments by container. They are made anew when more becomes known of the application.
    containers: HashMap<ContainerIndex, (Arc<Resource>, ContainerMetrics)>,
    plugins: Option<PluginMetrics>,
}

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
        if outcome.tick.is_some() {
            self.plugins
                .get_or_insert_with(|| PluginMetrics::new(&meters.own_meter()))
                .take(pipeline.models().plugins());
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
            .containers
            .entry(container)
            .or_insert_with(|| (resource.clone(), meters.container(&resource)));
        if !Arc::ptr_eq(&known.0, &resource) && known.0 != resource {
            *known = (resource.clone(), meters.container(&resource));
        }
        &mut known.1
    }
}

/// What the plugins do and cost, under Stethos's own resource.
struct PluginMetrics {
    failures: Counter<u64>,
    restarts: Counter<u64>,
    quarantined: Gauge<u64>,
    windows: Counter<u64>,
    unjudged: Counter<u64>,
    cache_hits: Counter<u64>,
    cpu: Counter<f64>,
    memory: Gauge<u64>,
    /// In the order of [`crate::models::Models::plugins`].
    last: Vec<PluginSnapshot>,
}

impl PluginMetrics {
    fn new(meter: &Meter) -> Self {
        Self {
            failures: meter
                .u64_counter("stethos.plugin.failures")
                .with_unit("{failure}")
                .with_description("Calls into the plugin that failed, by reason")
                .build(),
            restarts: meter
                .u64_counter("stethos.plugin.restarts")
                .with_unit("{restart}")
                .with_description("Times that the plugin's guest was started again")
                .build(),
            quarantined: meter
                .u64_gauge("stethos.plugin.quarantined")
                .with_unit("1")
                .with_description("1 = the plugin failed too often and is not asked any more")
                .build(),
            windows: meter
                .u64_counter("stethos.plugin.windows")
                .with_unit("{window}")
                .with_description("Windows that the plugin was given")
                .build(),
            unjudged: meter
                .u64_counter("stethos.plugin.windows.unjudged")
                .with_unit("{window}")
                .with_description("Windows among them that stayed without a verdict")
                .build(),
            cache_hits: meter
                .u64_counter("stethos.plugin.cache.hits")
                .with_unit("{window}")
                .with_description("Windows among them whose verdict was known")
                .build(),
            cpu: meter
                .f64_counter("stethos.plugin.time")
                .with_unit("s")
                .with_description("Time inside the plugin's guest")
                .build(),
            memory: meter
                .u64_gauge("stethos.plugin.memory.usage")
                .with_unit("By")
                .with_description("Memory of the plugin's guest")
                .build(),
            last: Vec::new(),
        }
    }

    fn take<'a>(&mut self, plugins: impl Iterator<Item = &'a Plugin>) {
        for (index, plugin) in plugins.enumerate() {
            let now = plugin.metrics();
            if self.last.len() <= index {
                self.last.push(PluginSnapshot::default());
            }
            let last = std::mem::replace(&mut self.last[index], now);
            self.one(plugin.name(), &now, &last);
        }
    }

    fn one(&self, name: &str, now: &PluginSnapshot, last: &PluginSnapshot) {
        let plugin = KeyValue::new("stethos.plugin.source", name.to_owned());
        for (reason, now, last) in [
            ("trap", now.traps, last.traps),
            ("timeout", now.timeouts, last.timeouts),
            ("memory", now.memory_refusals, last.memory_refusals),
            ("invalid", now.invalid_answers, last.invalid_answers),
            ("refused", now.refusals, last.refusals),
        ] {
            if now > last {
                let reason = KeyValue::new("error.type", reason);
                self.failures.add(now - last, &[plugin.clone(), reason]);
            }
        }
        let plugin = [plugin];
        for (counter, now, last) in [
            (&self.restarts, now.restarts, last.restarts),
            (&self.windows, now.windows, last.windows),
            (&self.unjudged, now.unjudged, last.unjudged),
            (&self.cache_hits, now.cache_hits, last.cache_hits),
        ] {
            counter.add(now.saturating_sub(last), &plugin);
        }
        self.quarantined.record(now.quarantined.into(), &plugin);
        let spent = now.guest_time.saturating_sub(last.guest_time);
        self.cpu.add(spent.as_secs_f64(), &plugin);
        self.memory.record(now.memory_bytes, &plugin);
    }
}
