//! Metrics. A container's go out under its application's resource, Stethos's health under its own:
//! one SDK provider for each, all collected by one task every `OTEL_METRIC_EXPORT_INTERVAL`.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Meter, MeterProvider};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{
    InstrumentKind, ManualReader, Pipeline, SdkMeterProvider, Temporality,
};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use crate::record::Account;

use super::config::ExportConfig;
use super::instruments;
use super::queue::{Queue, SignalStats, StatsReader};
use super::resource::Resource;
use super::scope;

/// What was collected from the meters of one resource.
#[derive(Debug)]
pub(super) struct MetricItem {
    pub(super) resource: Arc<Resource>,
    pub(super) metrics: ResourceMetrics,
}

/// The meters of one resource.
#[derive(Clone, Debug)]
struct Source {
    resource: Arc<Resource>,
    provider: SdkMeterProvider,
    reader: SharedReader,
}

impl Source {
    fn new(resource: &Resource, temporality: Temporality) -> Self {
        let reader = ManualReader::builder()
            .with_temporality(temporality)
            .build();
        let reader = SharedReader(Arc::new(reader));
        let provider = SdkMeterProvider::builder()
            .with_reader(reader.clone())
            .with_resource(resource.to_sdk())
            .build();
        Source {
            resource: Arc::new(resource.clone()),
            provider,
            reader,
        }
    }

    fn meter(&self) -> Meter {
        self.provider.meter_with_scope(scope())
    }

    /// `None` when there is nothing to tell.
    fn collect(&self) -> Option<MetricItem> {
        let mut metrics = ResourceMetrics::default();
        if let Err(error) = self.reader.collect(&mut metrics) {
            tracing::debug!(%error, "metrics were not collected");
            return None;
        }
        let mut scopes = metrics.scope_metrics();
        let told = scopes.any(|scope| scope.metrics().next().is_some());
        drop(scopes);
        told.then(|| MetricItem {
            resource: Arc::clone(&self.resource),
            metrics,
        })
    }
}

/// The provider takes its reader; the collecting task needs it too.
#[derive(Clone, Debug)]
struct SharedReader(Arc<ManualReader>);

impl MetricReader for SharedReader {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}

/// All sources and the task that collects them.
#[derive(Debug)]
pub struct Meters {
    own: Source,
    containers: Arc<Mutex<Vec<Weak<Source>>>>,
    temporality: Temporality,
    export: Option<Export>,
}

#[derive(Debug)]
struct Export {
    queue: Arc<Queue<MetricItem>>,
    task: JoinHandle<()>,
}

impl Meters {
    pub(super) fn start(
        config: &ExportConfig,
        queue: Option<Queue<MetricItem>>,
        exported: Vec<(&'static str, StatsReader)>,
    ) -> Self {
        let own = Source::new(&config.own_resource, config.temporality);
        observe_self(&own.meter(), exported);
        let containers = Arc::<Mutex<Vec<Weak<Source>>>>::default();
        let export = queue.map(|queue| {
            let queue = Arc::new(queue);
            let collecting = collect_every(
                config.metric_interval,
                own.clone(),
                Arc::clone(&containers),
                queue.clone(),
            );
            Export {
                queue,
                task: tokio::spawn(collecting),
            }
        });
        Meters {
            own,
            containers,
            temporality: config.temporality,
            export,
        }
    }

    /// Instruments of one container, under its application's resource. Dropping them ends its
    /// series.
    pub fn container(&self, resource: &Resource) -> ContainerMetrics {
        let source = Arc::new(Source::new(resource, self.temporality));
        let mut containers = self
            .containers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        containers.push(Arc::downgrade(&source));
        ContainerMetrics::new(source)
    }

    /// For instruments about Stethos itself, under its own `service.name`.
    pub fn own_meter(&self) -> Meter {
        self.own.meter()
    }

    pub(super) fn stats(&self) -> SignalStats {
        self.export
            .as_ref()
            .map(|export| export.queue.stats())
            .unwrap_or_default()
    }

    /// Collects a last time and sends what is queued until the deadline.
    pub(super) async fn close(self, until: Instant) -> SignalStats {
        let Some(Export { queue, task }) = self.export else {
            return SignalStats::default();
        };
        task.abort();
        let _ = task.await;
        collect(&self.own, &self.containers, &queue);
        match Arc::try_unwrap(queue) {
            Ok(queue) => queue.close(until).await,
            Err(shared) => shared.stats(),
        }
    }
}

async fn collect_every(
    interval: Duration,
    own: Source,
    containers: Arc<Mutex<Vec<Weak<Source>>>>,
    queue: Arc<Queue<MetricItem>>,
) {
    let mut interval = tokio::time::interval(interval.max(Duration::from_millis(10)));
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    interval.tick().await;
    loop {
        interval.tick().await;
        collect(&own, &containers, &queue);
    }
}

fn collect(own: &Source, containers: &Mutex<Vec<Weak<Source>>>, queue: &Queue<MetricItem>) {
    let mut containers = containers.lock().unwrap_or_else(PoisonError::into_inner);
    containers.retain(|source| source.strong_count() > 0);
    let live: Vec<_> = containers.iter().filter_map(Weak::upgrade).collect();
    drop(containers);
    for metrics in live
        .iter()
        .map(Arc::as_ref)
        .chain([own])
        .filter_map(Source::collect)
    {
        queue.push(metrics);
    }
}

/// What Stethos says about one container.
#[derive(Debug)]
pub struct ContainerMetrics {
    calls: Counter<u64>,
    errors: Counter<u64>,
    stability: Gauge<f64>,
    surprise: Gauge<f64>,
    depth: Gauge<u64>,
    loss: Counter<u64>,
    last: Account,
    _source: Arc<Source>,
}

impl ContainerMetrics {
    fn new(source: Arc<Source>) -> Self {
        let meter = source.meter();
        ContainerMetrics {
            calls: instruments::CALLS.u64_counter(&meter),
            errors: instruments::ERRORS.u64_counter(&meter),
            stability: instruments::STABILITY.f64_gauge(&meter),
            surprise: instruments::SURPRISE.f64_gauge(&meter),
            depth: instruments::DEPTH.u64_gauge(&meter),
            loss: instruments::CAPTURE_LOSS.u64_counter(&meter),
            last: Account::default(),
            _source: source,
        }
    }

    /// The account of a tick: adds what came since the one before.
    pub fn account(&mut self, account: &Account) {
        let last = std::mem::replace(&mut self.last, *account);
        self.calls.add(account.seen.saturating_sub(last.seen), &[]);
        for (cause, now, before) in [
            ("ring_full", account.lost_ring_full, last.lost_ring_full),
            ("no_slot", account.lost_no_slot, last.lost_no_slot),
            ("decode", account.lost_decode, last.lost_decode),
        ] {
            let cause = KeyValue::new("stethos.loss.cause", cause);
            self.loss.add(now.saturating_sub(before), &[cause]);
        }
    }

    /// Failed calls, by errno name.
    pub fn errors(&self, errno: &'static str, calls: u64) {
        self.errors
            .add(calls, &[KeyValue::new("error.type", errno)]);
    }

    pub fn stability(&self, stability: f64) {
        self.stability.record(stability, &[]);
    }

    pub fn surprise(&self, nats: f64) {
        self.surprise.record(nats, &[]);
    }

    pub fn depth(&self, depth: u8) {
        self.depth.record(depth.into(), &[]);
    }
}

/// CPU and memory of this process, and what became of exported records.
fn observe_self(meter: &Meter, exported: Vec<(&'static str, StatsReader)>) {
    meter
        .f64_observable_counter(instruments::CPU_TIME.name)
        .with_unit(instruments::CPU_TIME.unit)
        .with_description(instruments::CPU_TIME.description)
        .with_callback(|observer| {
            let Ok(stat) = procfs::process::Process::myself().and_then(|p| p.stat()) else {
                return;
            };
            let seconds = |ticks: u64| ticks as f64 / procfs::ticks_per_second() as f64;
            let mode = |mode| [KeyValue::new("cpu.mode", mode)];
            observer.observe(seconds(stat.utime), &mode("user"));
            observer.observe(seconds(stat.stime), &mode("system"));
        })
        .build();
    meter
        .i64_observable_up_down_counter(instruments::MEMORY_USAGE.name)
        .with_unit(instruments::MEMORY_USAGE.unit)
        .with_description(instruments::MEMORY_USAGE.description)
        .with_callback(|observer| {
            let Ok(statm) = procfs::process::Process::myself().and_then(|p| p.statm()) else {
                return;
            };
            let bytes = statm.resident.saturating_mul(procfs::page_size());
            observer.observe(i64::try_from(bytes).unwrap_or(i64::MAX), &[]);
        })
        .build();
    let waiting = exported.clone();
    meter
        .u64_observable_gauge(instruments::EXPORT_WAITING.name)
        .with_unit(instruments::EXPORT_WAITING.unit)
        .with_description(instruments::EXPORT_WAITING.description)
        .with_callback(move |observer| {
            for (signal, reader) in &waiting {
                let signal = KeyValue::new("stethos.export.signal", *signal);
                observer.observe(reader.read().kept, &[signal]);
            }
        })
        .build();
    meter
        .u64_observable_counter(instruments::EXPORT_RECORDS.name)
        .with_unit(instruments::EXPORT_RECORDS.unit)
        .with_description(instruments::EXPORT_RECORDS.description)
        .with_callback(move |observer| {
            for (signal, reader) in &exported {
                let stats = reader.read();
                for (outcome, count) in [
                    ("accepted", stats.accepted),
                    ("rejected", stats.rejected),
                    ("dropped_full", stats.dropped_full),
                    ("dropped_unsent", stats.dropped_unsent),
                ] {
                    let attributes = [
                        KeyValue::new("stethos.export.signal", *signal),
                        KeyValue::new("stethos.export.outcome", outcome),
                    ];
                    observer.observe(count, &attributes);
                }
            }
        })
        .build();
}
