//! What leaves the sidecar: OTLP logs, spans and metrics, and the JSON line.
//!
//! A diagnosis carries the resource of the application that it is about. The SDK's providers have
//! one resource and one thread each, so finished records of the SDK go through one bounded queue
//! per signal, which groups them by resource and has each group encoded by the exporter of
//! `opentelemetry-otlp` for it ([`exporters`]). Requests wait on disk or in memory ([`outbox`]) until
//! the collector has answered ([`transport`]), in their order. Metrics come from the SDK's meters, one
//! provider per resource, collected by one task ([`metrics`]); [`instruments`] lists them.

mod attributes;
mod config;
mod contexts;
mod exporters;
pub mod instruments;
mod json;
mod log;
pub mod metrics;
mod outbox;
mod pod_info;
mod queue;
mod resource;
mod span;
mod transport;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::InstrumentationScope;
use tokio::time::Instant;

use crate::diagnosis::report::Report;
use crate::record::Nanos;
use crate::trace::Context;

pub use attributes::AttributeLimits;
pub use config::{
    BatchConfig, ConfigError, Endpoint, ExportConfig, Limits, Protocol, Signal, TlsFiles,
};
pub use contexts::Contexts;
pub use json::{call_to_json, to_json};
pub use outbox::OutboxConfig;
pub use pod_info::PodInfo;
pub use queue::SignalStats;
pub use resource::{Lookup, Resource};
pub use transport::TransportError;

use exporters::Record;
use log::LogItem;
use queue::Queue;
use span::{Assembler, SpanItem};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Instrumentation scope of everything that is exported.
fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("stethos")
        .with_version(VERSION)
        .build()
}

/// The plugin whose verdicts a diagnosis rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginIdentity {
    pub name: String,
    pub version: String,
}

/// A report of diagnosis with all that its readers need to place it.
#[derive(Clone, Debug)]
pub struct Published {
    pub report: Report,
    /// For an affected call what the join resolved; for a diagnosis see [`Contexts::complete`].
    pub context: Context,
    /// The diagnosed application's.
    pub resource: Arc<Resource>,
    pub plugin: Option<PluginIdentity>,
    /// None without models.
    pub application_type: Option<String>,
    pub model_id: Option<String>,
    pub capture_mode: String,
    /// Unix time minus the records' time, in ns.
    pub unix_offset_ns: i64,
}

impl Published {
    fn unix(&self, ns: Nanos) -> u64 {
        ns.saturating_add_signed(self.unix_offset_ns)
    }

    fn time(&self, ns: Nanos) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.unix(ns))
    }
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExportStats {
    pub logs: SignalStats,
    pub spans: SignalStats,
    pub metrics: SignalStats,
    /// Affected requests that got no span: over the bound per minute, of an incident that was not
    /// known, or of a request that already had its span.
    pub spans_withheld: u64,
}

/// Sends what diagnosis reports. Never blocks: what does not fit its queues is dropped and counted.
#[derive(Debug)]
pub struct Exporter {
    assembler: Assembler,
    records: log::Records,
    logs: Option<Queue<LogItem>>,
    spans: Option<Queue<SpanItem>>,
    meters: metrics::Meters,
}

impl Exporter {
    /// Starts the sending tasks on the current tokio runtime. A collector that cannot be reached
    /// is no error; certificate files that cannot be read are.
    pub fn new(config: ExportConfig) -> Result<Self, TransportError> {
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let logs = start::<LogItem>(&config.logs, config.log_batch, &config)?;
        let spans = start::<SpanItem>(&config.traces, config.span_batch, &config)?;
        let metrics = start(&config.metrics, config.metric_batch, &config)?;
        let logs_read = logs.as_ref().map(|queue| ("logs", queue.stats_reader()));
        let spans_read = spans.as_ref().map(|queue| ("traces", queue.stats_reader()));
        let exported = logs_read.into_iter().chain(spans_read).collect();
        let meters = metrics::Meters::start(&config, metrics, exported);
        let assembler = Assembler::new(config.limits, config.spans_per_minute);
        Ok(Exporter {
            assembler,
            records: log::Records::new(config.limits.log),
            logs,
            spans,
            meters,
        })
    }

    /// Takes reports in their order. Spans of affected requests wait up to two seconds of record
    /// time for more calls of the same request: call [`Exporter::tick`] too.
    pub fn publish(&mut self, batch: &[Published]) {
        for published in batch {
            match &published.report {
                Report::Diagnosis(diagnosis) => {
                    if let Some(queue) = &self.logs {
                        queue.push(self.records.item(published, diagnosis));
                    }
                    self.assembler.on_diagnosis(published, diagnosis);
                }
                Report::Affected(call) => self.assembler.on_affected(published, call),
            }
        }
        self.send_spans();
    }

    /// Record time goes on.
    pub fn tick(&mut self, now: Nanos) {
        self.assembler.tick(now);
        self.send_spans();
    }

    fn send_spans(&mut self) {
        for item in self.assembler.drain() {
            if let Some(queue) = &self.spans {
                queue.push(item);
            }
        }
    }

    /// Instruments for the containers' and Stethos's own metrics.
    pub fn meters(&self) -> &metrics::Meters {
        &self.meters
    }

    pub fn stats(&self) -> ExportStats {
        let stats = |queue: Option<SignalStats>| queue.unwrap_or_default();
        ExportStats {
            logs: stats(self.logs.as_ref().map(Queue::stats)),
            spans: stats(self.spans.as_ref().map(Queue::stats)),
            metrics: self.meters.stats(),
            spans_withheld: self.assembler.withheld(),
        }
    }

    /// Sends what is pending and waits for the collector until `deadline` is over; what still waits
    /// then is sent by the next process where it is on disk, else dropped and counted.
    pub async fn shutdown(mut self, deadline: Duration) -> ExportStats {
        self.assembler.tick(Nanos::MAX);
        self.send_spans();
        let until = Instant::now() + deadline;
        let (logs, spans, metrics) = tokio::join!(
            close(self.logs.take(), until),
            close(self.spans.take(), until),
            self.meters.close(until),
        );
        ExportStats {
            logs,
            spans,
            metrics,
            spans_withheld: self.assembler.withheld(),
        }
    }
}

/// `None` where a signal is not exported.
fn start<T: Record>(
    endpoint: &Option<Endpoint>,
    batch: BatchConfig,
    config: &ExportConfig,
) -> Result<Option<Queue<T>>, TransportError> {
    let Some(endpoint) = endpoint else {
        return Ok(None);
    };
    let mut endpoint = endpoint.clone();
    if let Some(bound) = batch.export_timeout {
        endpoint.timeout = endpoint.timeout.min(bound);
    }
    let courier = transport::Courier::new(T::SIGNAL, &endpoint)?;
    // A measurement that comes late is worth little.
    let disk = config
        .outbox
        .clone()
        .filter(|_| T::SIGNAL != Signal::Metrics);
    let disk = disk.map(|outbox| OutboxConfig {
        folder: outbox.folder.join(T::SIGNAL.as_str()),
        ..outbox
    });
    Ok(Some(Queue::start(courier, batch, config, disk)))
}

async fn close<T: Record>(queue: Option<Queue<T>>, until: Instant) -> SignalStats {
    match queue {
        Some(queue) => queue.close(until).await,
        None => SignalStats::default(),
    }
}

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
