//! Makes requests of records, by the exporters of `opentelemetry-otlp`. One of those has one resource:
//! there is one for every resource that records came with lately.
//!
//! The exporters make one request out of a batch and take any HTTP client: [`Shelf`] keeps the
//! request's body, and that is sent later. From `OTEL_*` the exporters read headers, time-outs and
//! compression too; only the body is taken from their requests, everything else comes from
//! [`super::config`] and is applied once.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
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

/// More than the containers of a pod; what is forgotten is made again when it is needed.
const MAX_RESOURCES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);

/// What exporters think that they send to.
const NOWHERE: &str = "http://localhost";

/// A record that can be queued, and how its signal is exported.
pub(super) trait Record: Send + Sync + Sized + 'static {
    const SIGNAL: Signal;
    /// Records that fit into one request.
    const PER_REQUEST: usize = usize::MAX;
    type Exporter: Send + Sync;

    fn resource(&self) -> &Arc<Resource>;

    fn exporter(
        shelf: &Arc<Shelf>,
        resource: &Resource,
    ) -> Result<Self::Exporter, ExporterBuildError>;

    /// Leaves the request on the shelf.
    fn export(
        exporter: &Self::Exporter,
        records: &[Self],
    ) -> impl Future<Output = OTelSdkResult> + Send;
}

/// The HTTP client of exporters: what they send lies here.
#[derive(Debug, Default)]
pub(super) struct Shelf(Mutex<Option<Bytes>>);

impl Shelf {
    fn take(&self) -> Option<Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[tonic::async_trait]
impl HttpClient for Shelf {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(request.into_body());
        Ok(Response::new(Bytes::new()))
    }
}

pub(super) struct Exporters<T: Record> {
    shelf: Arc<Shelf>,
    known: LruCache<Arc<Resource>, T::Exporter>,
}

impl<T: Record> Exporters<T> {
    pub(super) fn new() -> Self {
        Exporters {
            shelf: Arc::default(),
            known: LruCache::new(MAX_RESOURCES),
        }
    }

    /// The body of one of the [`requests`] of a batch; an error for people.
    pub(super) async fn encode(&mut self, request: &[T]) -> Result<Bytes, String> {
        let first = request.first().ok_or("no records")?;
        let resource = first.resource();
        let exporter = self
            .known
            .try_get_or_insert(Arc::clone(resource), || T::exporter(&self.shelf, resource))
            .map_err(|error| error.to_string())?;
        let result = T::export(exporter, request).await;
        self.shelf.take().ok_or_else(|| {
            result.map_or_else(
                |error| error.to_string(),
                |()| "nothing was sent".to_owned(),
            )
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

/// Where the environment says something else, this stands over it.
fn prepared<B: WithExportConfig + WithHttpConfig>(builder: B, shelf: &Arc<Shelf>) -> B {
    builder
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(NOWHERE)
        .with_retry_policy(RetryPolicy::disabled())
        .with_shared_http_client(Arc::clone(shelf) as _)
}

impl Record for LogItem {
    const SIGNAL: Signal = Signal::Logs;
    type Exporter = LogExporter;

    fn resource(&self) -> &Arc<Resource> {
        &self.resource
    }

    fn exporter(
        shelf: &Arc<Shelf>,
        resource: &Resource,
    ) -> Result<LogExporter, ExporterBuildError> {
        let mut exporter = prepared(LogExporter::builder().with_http(), shelf).build()?;
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
        shelf: &Arc<Shelf>,
        resource: &Resource,
    ) -> Result<SpanExporter, ExporterBuildError> {
        let mut exporter = prepared(SpanExporter::builder().with_http(), shelf).build()?;
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
    fn exporter(shelf: &Arc<Shelf>, _: &Resource) -> Result<MetricExporter, ExporterBuildError> {
        prepared(MetricExporter::builder().with_http(), shelf).build()
    }

    async fn export(exporter: &MetricExporter, records: &[Self]) -> OTelSdkResult {
        for item in records {
            exporter.export(&item.metrics).await?;
        }
        Ok(())
    }
}
