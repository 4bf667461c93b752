//! The exporters of one signal. An exporter of `opentelemetry-otlp` has one resource: there is one
//! for every resource that records came with lately, all of them behind one [`Courier`].

use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use opentelemetry_otlp::{
    ExporterBuildError, LogExporter, MetricExporter, Protocol, RetryPolicy, SpanExporter,
    WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogBatch, LogExporter as _};
use opentelemetry_sdk::metrics::exporter::PushMetricExporter as _;
use opentelemetry_sdk::trace::SpanExporter as _;

use super::config::Signal;
use super::log::LogItem;
use super::metrics::MetricItem;
use super::resource::Resource;
use super::scope;
use super::span::SpanItem;
use super::transport::{Courier, Outcome};

/// More than the containers of a pod; what is forgotten is made again when it is needed.
const MAX_RESOURCES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);

/// A record that can be queued, and how its signal is exported.
pub(super) trait Record: Send + Sync + Sized + 'static {
    const SIGNAL: Signal;
    /// Records that fit into one request.
    const PER_REQUEST: usize = usize::MAX;
    type Exporter: Send + Sync;

    fn resource(&self) -> &Arc<Resource>;

    fn exporter(
        courier: &Arc<Courier>,
        resource: &Resource,
    ) -> Result<Self::Exporter, ExporterBuildError>;

    /// One attempt; its result says less than the courier's answer.
    fn export(
        exporter: &Self::Exporter,
        records: &[Self],
    ) -> impl Future<Output = OTelSdkResult> + Send;
}

pub(super) struct Exporters<T: Record> {
    courier: Arc<Courier>,
    known: LruCache<Arc<Resource>, T::Exporter>,
}

impl<T: Record> Exporters<T> {
    pub(super) fn new(courier: Courier) -> Self {
        Exporters {
            courier: Arc::new(courier),
            known: LruCache::new(MAX_RESOURCES),
        }
    }

    /// One attempt for one of the [`requests`] of a batch.
    pub(super) async fn send(&mut self, request: &[T]) -> Outcome {
        let Some(first) = request.first() else {
            return Outcome::Accepted {
                rejected: 0,
                message: String::new(),
            };
        };
        let resource = first.resource();
        let exporter = self.known.try_get_or_insert(Arc::clone(resource), || {
            T::exporter(&self.courier, resource)
        });
        let result = match exporter {
            Ok(exporter) => T::export(exporter, request).await,
            Err(error) => {
                let reason = error.to_string();
                return Outcome::Refused { reason };
            }
        };
        self.courier.take_answer().unwrap_or_else(|| {
            let reason = result.map_or_else(|error| error.to_string(), |()| "not sent".to_owned());
            Outcome::Refused { reason }
        })
    }
}

/// What goes out together: records of one resource, in their order.
pub(super) fn requests<T: Record>(batch: Vec<T>) -> Vec<Vec<T>> {
    let mut requests: Vec<Vec<T>> = Vec::new();
    for record in batch {
        let open = requests.iter_mut().find(|request| {
            request.len() < T::PER_REQUEST && request[0].resource() == record.resource()
        });
        match open {
            Some(request) => request.push(record),
            None => requests.push(vec![record]),
        }
    }
    requests
}

/// Where the environment says something else, this stands over it. For headers, which are added to
/// those of the environment, see [`super::transport`].
fn prepared<B: WithExportConfig + WithHttpConfig>(builder: B, courier: &Arc<Courier>) -> B {
    builder
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(courier.url())
        .with_retry_policy(RetryPolicy::disabled())
        .with_shared_http_client(Arc::clone(courier) as _)
}

impl Record for LogItem {
    const SIGNAL: Signal = Signal::Logs;
    type Exporter = LogExporter;

    fn resource(&self) -> &Arc<Resource> {
        &self.resource
    }

    fn exporter(
        courier: &Arc<Courier>,
        resource: &Resource,
    ) -> Result<LogExporter, ExporterBuildError> {
        let mut exporter = prepared(LogExporter::builder().with_http(), courier).build()?;
        exporter.set_resource(&resource.to_sdk());
        Ok(exporter)
    }

    async fn export(exporter: &LogExporter, records: &[Self]) -> OTelSdkResult {
        let scope = scope();
        let records: Vec<_> = records.iter().map(|item| (&item.record, &scope)).collect();
        exporter.export(LogBatch::new(&records)).await
    }
}

impl Record for SpanItem {
    const SIGNAL: Signal = Signal::Traces;
    type Exporter = SpanExporter;

    fn resource(&self) -> &Arc<Resource> {
        &self.resource
    }

    fn exporter(
        courier: &Arc<Courier>,
        resource: &Resource,
    ) -> Result<SpanExporter, ExporterBuildError> {
        let mut exporter = prepared(SpanExporter::builder().with_http(), courier).build()?;
        exporter.set_resource(&resource.to_sdk());
        Ok(exporter)
    }

    async fn export(exporter: &SpanExporter, records: &[Self]) -> OTelSdkResult {
        let spans = records.iter().map(|item| item.span.clone());
        exporter.export(spans.collect()).await
    }
}

impl Record for MetricItem {
    const SIGNAL: Signal = Signal::Metrics;
    const PER_REQUEST: usize = 1;
    type Exporter = MetricExporter;

    fn resource(&self) -> &Arc<Resource> {
        &self.resource
    }

    /// What is collected carries its resource itself.
    fn exporter(
        courier: &Arc<Courier>,
        _: &Resource,
    ) -> Result<MetricExporter, ExporterBuildError> {
        prepared(MetricExporter::builder().with_http(), courier).build()
    }

    async fn export(exporter: &MetricExporter, records: &[Self]) -> OTelSdkResult {
        for item in records {
            exporter.export(&item.metrics).await?;
        }
        Ok(())
    }
}
