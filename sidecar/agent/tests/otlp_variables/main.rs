//! What every `OTEL_*` variable does, as servers see it. The table of variables in
//! `docs/telemetry.md` names the test of each; `documented` keeps the table true.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod documented;
mod metrics;
mod process;
mod records;
#[path = "../otlp/reports.rs"]
mod reports;
mod sending;
#[path = "../otlp/simulated.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod simulated;
#[path = "../otlp/tls.rs"]
mod tls;

use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use stethos::diagnosis::report::IncidentState;
use stethos::export::{ExportConfig, ExportStats, Exporter, Published};
use stethos::trace::Context;
use tokio::time::{Instant, sleep};

use reports::{affected, diagnosis, own_span};
use simulated::{Answer, HttpServer};

/// How long a test waits for what has to come.
const PATIENCE: Duration = Duration::from_secs(30);
const LOGS: &str = "/v1/logs";
const TRACES: &str = "/v1/traces";
const METRICS: &str = "/v1/metrics";

/// A server that takes everything.
async fn accepting() -> HttpServer {
    HttpServer::start((0..1000).map(|_| Answer::status(200))).await
}

fn exporter(variables: &[(&str, &str)]) -> Exporter {
    let lookup = |name: &str| {
        let set = variables.iter().find(|(key, _)| *key == name);
        set.map(|(_, value)| value.to_string())
    };
    Exporter::new(ExportConfig::read(&lookup).unwrap()).unwrap()
}

/// Sends two logs, two spans and metrics.
async fn export(variables: &[(&str, &str)]) -> ExportStats {
    let mut exporter = exporter(variables);
    exporter.publish(&incident(1));
    exporter.shutdown(PATIENCE).await
}

/// One log more than the affected requests, and as many spans.
fn incident(requests: u8) -> Vec<Published> {
    let log = |state, at| diagnosis("api", state, at, Context::default());
    let numbers = 1..=requests;
    let begin = numbers
        .clone()
        .map(|_| log(IncidentState::Suspected, 1_050));
    let requests = numbers.map(|trace| affected("api", 1_000, 1_004, own_span(trace)));
    let end = [log(IncidentState::Confirmed, 1_100)];
    begin.chain(requests).chain(end).collect()
}

/// The requests to a path.
fn sent<M: Message + Default>(server: &HttpServer, path: &str) -> Vec<M> {
    let start = format!("POST {path} ");
    let requests = server.requests().into_iter();
    requests
        .filter(|request| request.head.starts_with(&start))
        .map(|request| M::decode(&*request.body).unwrap())
        .collect()
}

/// The records of each request.
fn logs(server: &HttpServer) -> Vec<Vec<LogRecord>> {
    let requests = sent::<ExportLogsServiceRequest>(server, LOGS).into_iter();
    let records = requests.map(|request| {
        let scopes = request.resource_logs.into_iter().flat_map(|r| r.scope_logs);
        scopes.flat_map(|scope| scope.log_records).collect()
    });
    records.collect()
}

/// The spans of each request.
fn spans(server: &HttpServer) -> Vec<Vec<Span>> {
    let requests = sent::<ExportTraceServiceRequest>(server, TRACES).into_iter();
    let spans = requests.map(|request| {
        let resources = request.resource_spans.into_iter();
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    });
    spans.collect()
}

/// The texts among attributes of a name.
fn texts<'a>(attributes: &'a [KeyValue], name: &str) -> Vec<&'a str> {
    fn of(value: &Value) -> Vec<&str> {
        match value {
            Value::StringValue(text) => vec![text.as_str()],
            Value::ArrayValue(list) => {
                let values = list.values.iter().filter_map(|v| v.value.as_ref());
                values.flat_map(of).collect()
            }
            _ => vec![],
        }
    }
    let named = attributes.iter().filter(|kv| kv.key == name);
    let values = named.filter_map(|kv| kv.value.as_ref()?.value.as_ref());
    values.flat_map(of).collect()
}

async fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "it does not come");
        sleep(Duration::from_millis(10)).await;
    }
}
