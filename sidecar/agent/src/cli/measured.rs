//! Metrics of the containers, from what came of each batch, of the plugins, and of the store that
//! replicas share.

use std::{collections::HashMap, sync::Arc};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Meter},
};
use stethos_patterns::names;

use crate::{
    export::{
        Resource, instruments,
        metrics::{ContainerMetrics, Meters},
    },
    learning::{
        Learning,
        shared::counts::{REASONS, StoreSnapshot, TASKS},
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
    store: Option<StoreMetrics>,
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
            if let Some(store) = pipeline.learning().and_then(Learning::shared) {
                self.store
                    .get_or_insert_with(|| StoreMetrics::new(&meters.own_meter()))
                    .take(store.snapshot());
            }
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
            failures: instruments::PLUGIN_FAILURES.u64_counter(meter),
            restarts: instruments::PLUGIN_RESTARTS.u64_counter(meter),
            quarantined: instruments::PLUGIN_QUARANTINED.u64_gauge(meter),
            windows: instruments::PLUGIN_WINDOWS.u64_counter(meter),
            unjudged: instruments::PLUGIN_UNJUDGED.u64_counter(meter),
            cache_hits: instruments::PLUGIN_CACHE_HITS.u64_counter(meter),
            cpu: instruments::PLUGIN_TIME.f64_counter(meter),
            memory: instruments::PLUGIN_MEMORY.u64_gauge(meter),
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

/// What the store of shared models was asked and answered, under Stethos's own resource.
struct StoreMetrics {
    bundles: Counter<u64>,
    refusals: Counter<u64>,
    failures: Counter<u64>,
    last: StoreSnapshot,
}

impl StoreMetrics {
    fn new(meter: &Meter) -> Self {
        Self {
            bundles: instruments::STORE_BUNDLES.u64_counter(meter),
            refusals: instruments::STORE_REFUSALS.u64_counter(meter),
            failures: instruments::STORE_FAILURES.u64_counter(meter),
            last: StoreSnapshot::default(),
        }
    }

    fn take(&mut self, now: StoreSnapshot) {
        let last = std::mem::replace(&mut self.last, now);
        let add = |counter: &Counter<u64>, now: u64, last: u64, attributes: &[KeyValue]| {
            if now > last {
                counter.add(now - last, attributes);
            }
        };
        for (outcome, now, last) in [
            ("found", now.found, last.found),
            ("older", now.older, last.older),
            ("not_found", now.not_found, last.not_found),
            ("saved", now.saved, last.saved),
            ("already_there", now.already_there, last.already_there),
            ("replaced", now.replaced, last.replaced),
        ] {
            let outcome = KeyValue::new("stethos.store.outcome", outcome);
            add(&self.bundles, now, last, &[outcome]);
        }
        for (reason, now, last) in [
            ("too_large", now.too_large, last.too_large),
            ("signature", now.signature, last.signature),
            ("damaged", now.damaged, last.damaged),
            ("foreign", now.foreign, last.foreign),
        ] {
            let reason = KeyValue::new("error.type", reason);
            add(&self.refusals, now, last, &[reason]);
        }
        for task in TASKS {
            let (now, last) = (now.failures[task as usize], last.failures[task as usize]);
            for (reason, (now, last)) in REASONS.into_iter().zip(now.into_iter().zip(last)) {
                let attributes = [
                    KeyValue::new("stethos.store.task", task.name()),
                    KeyValue::new("error.type", reason),
                ];
                add(&self.failures, now, last, &attributes);
            }
        }
    }
}
