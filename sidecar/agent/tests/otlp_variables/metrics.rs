//! When metrics are sent, and as what.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, metric::Data};
use stethos::record::Account;

use super::reports::resource;
use super::simulated::HttpServer;
use super::{METRICS, PATIENCE, accepting, exporter, sent, until};

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

#[tokio::test]
async fn metrics_are_sent_at_their_interval() {
    let server = accepting().await;
    let interval = ("OTEL_METRIC_EXPORT_INTERVAL", "20");
    let _exporter = exporter(&[(ENDPOINT, &*server.endpoint()), interval]);
    until(|| server.requests().len() > 2).await;
}

#[tokio::test]
async fn metrics_are_given_up_after_their_time() {
    let server = HttpServer::start([]).await;
    let exporter = exporter(&[
        (ENDPOINT, &*server.endpoint()),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "20"),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "100"),
    ]);
    until(|| exporter.stats().metrics.dropped_unsent > 1).await;
}

/// By name, of those that have one.
fn temporalities(server: &HttpServer) -> BTreeMap<String, AggregationTemporality> {
    let requests = sent::<ExportMetricsServiceRequest>(server, METRICS).into_iter();
    let resources = requests.flat_map(|request| request.resource_metrics);
    let scopes = resources.flat_map(|resource| resource.scope_metrics);
    let metrics = scopes.flat_map(|scope| scope.metrics);
    metrics
        .filter_map(|metric| match metric.data? {
            Data::Sum(sum) => Some((metric.name, sum.aggregation_temporality())),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn sums_have_the_temporality_that_is_preferred() {
    use AggregationTemporality::{Cumulative, Delta};
    for (preference, counted, observed) in [
        ("", Cumulative, Cumulative),
        ("cumulative", Cumulative, Cumulative),
        ("Delta", Delta, Delta),
        ("LowMemory", Delta, Cumulative),
    ] {
        let server = accepting().await;
        let name = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
        let exporter = exporter(&[(ENDPOINT, &*server.endpoint()), (name, preference)]);
        let mut container = exporter.meters().container(&resource("api"));
        container.account(&Account {
            seen: 40,
            ..Account::default()
        });
        exporter.shutdown(PATIENCE).await;
        let found = temporalities(&server);
        assert_eq!(found["stethos.calls"], counted, "{preference}");
        assert_eq!(found["process.cpu.time"], observed, "{preference}");
        assert_eq!(found["process.memory.usage"], Cumulative, "{preference}");
    }
}
