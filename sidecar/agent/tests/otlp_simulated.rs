//! What a real collector seldom answers on demand: failure codes, partial success, silence. The
//! servers here are simulated and live in the test; `otlp_rotel` has the real one.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "otlp/reports.rs"]
mod reports;
#[path = "otlp/simulated.rs"]
mod simulated;

use std::collections::BTreeSet;
use std::io::Read as _;
use std::time::Duration;

use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use prost::Message;
use reports::diagnosis;
use simulated::{Answer, GrpcServer, HttpServer};
use stethos::diagnosis::report::IncidentState;
use stethos::export::{ExportConfig, ExportStats, Exporter, OutboxConfig, Published};
use stethos::trace::Context;
use tonic::{Code, Status};

const SECOND: Duration = Duration::from_secs(1);

/// Logs only, to the given endpoint.
fn settings(protocol: &str, endpoint: &str, more: &[(&str, &str)]) -> ExportConfig {
    let given = |name: &str| {
        more.iter()
            .find(|(n, _)| *n == name)
            .map(|(_, v)| v.to_string())
    };
    ExportConfig::read(&|name| match name {
        "OTEL_EXPORTER_OTLP_PROTOCOL" => Some(protocol.to_owned()),
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(endpoint.to_owned()),
        "OTEL_TRACES_EXPORTER" | "OTEL_METRICS_EXPORTER" => Some("none".into()),
        _ => given(name),
    })
    .unwrap()
}

fn report(service: &str) -> Published {
    diagnosis(service, IncidentState::Suspected, 1_050, Context::default())
}

/// The services whose resources are in each request.
fn services(server: &HttpServer) -> Vec<Vec<String>> {
    let service = |attributes: &[KeyValue]| {
        let found = attributes
            .iter()
            .find(|kv| kv.key == "service.name")
            .unwrap();
        match found.value.as_ref().and_then(|v| v.value.as_ref()) {
            Some(Value::StringValue(name)) => name.clone(),
            other => panic!("{other:?}"),
        }
    };
    let of_request = |body: &[u8]| {
        let sent = ExportLogsServiceRequest::decode(body).unwrap();
        let resources = sent
            .resource_logs
            .iter()
            .filter_map(|r| r.resource.as_ref());
        resources.map(|r| service(&r.attributes)).collect()
    };
    let requests = server.requests();
    requests.iter().map(|r| of_request(&r.body)).collect()
}

fn reports() -> [Published; 2] {
    let report = |state, at| diagnosis("api", state, at, Context::default());
    [
        report(IncidentState::Suspected, 1_050),
        report(IncidentState::Confirmed, 1_500),
    ]
}

async fn export(config: ExportConfig) -> ExportStats {
    let mut exporter = Exporter::new(config).unwrap();
    exporter.publish(&reports());
    exporter.shutdown(20 * SECOND).await
}

#[tokio::test]
async fn http_failures_are_retried_and_a_partial_success_is_not() {
    let answers = [
        Answer::status(429).header("Retry-After: 1"),
        Answer::status(503),
        Answer::status(502),
        Answer::hang_up(),
        Answer::partial_success(1, "one is too old"),
    ];
    let server = HttpServer::start(answers).await;
    let headers = [("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b")];
    let stats = export(settings("http/protobuf", &server.endpoint(), &headers)).await;
    assert_eq!(stats.logs.retries, 4, "{stats:?}");
    assert_eq!(
        (stats.logs.accepted, stats.logs.rejected),
        (1, 1),
        "{stats:?}"
    );
    assert_eq!(stats.logs.dropped_unsent, 0);

    let requests = server.requests();
    assert_eq!(requests.len(), 5);
    for request in &requests {
        assert!(
            request.head.starts_with("POST /v1/logs HTTP/1.1\r\n"),
            "{}",
            request.head
        );
        let head = request.head.to_ascii_lowercase();
        assert!(
            head.contains("content-type: application/x-protobuf\r\n"),
            "{head}"
        );
        assert!(head.contains("api-key: a b\r\n"), "{head}");
        assert_eq!(request.body, requests[0].body);
    }
    assert!(
        requests[1].at - requests[0].at >= SECOND,
        "Retry-After was not heeded"
    );
    let sent = ExportLogsServiceRequest::decode(requests[0].body.as_slice()).unwrap();
    assert_eq!(sent.resource_logs.len(), 1);
    assert_eq!(
        sent.resource_logs[0].scope_logs[0]
            .scope
            .as_ref()
            .unwrap()
            .name,
        "stethos"
    );
    assert_eq!(sent.resource_logs[0].scope_logs[0].log_records.len(), 2);
}

#[tokio::test]
async fn http_refusals_are_counted_and_not_retried() {
    for status in [400, 401, 413, 500] {
        let server = HttpServer::start([Answer::status(status)]).await;
        let stats = export(settings("http/protobuf", &server.endpoint(), &[])).await;
        assert_eq!(
            (stats.logs.accepted, stats.logs.retries),
            (0, 0),
            "{status}: {stats:?}"
        );
        assert_eq!(stats.logs.dropped_unsent, 2, "{status}: {stats:?}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_refused_resource_costs_only_its_own_records() {
    let server = HttpServer::start([Answer::status(400), Answer::status(200)]).await;
    let mut exporter = Exporter::new(settings("http/protobuf", &server.endpoint(), &[])).unwrap();
    for service in ["api", "catalog"] {
        exporter.publish(&[report(service), report(service)]);
    }
    let stats = exporter.shutdown(20 * SECOND).await;
    let counts = (stats.logs.accepted, stats.logs.dropped_unsent);
    assert_eq!(counts, (2, 2), "{stats:?}");
    assert_eq!(services(&server), [["api"], ["catalog"]]);
}

#[tokio::test]
async fn every_resource_is_served_however_many_there_are() {
    const MANY: usize = 100;
    let server = HttpServer::start((0..MANY).map(|_| Answer::status(200))).await;
    let mut exporter = Exporter::new(settings("http/protobuf", &server.endpoint(), &[])).unwrap();
    let names: BTreeSet<_> = (0..MANY).map(|n| format!("service-{n}")).collect();
    let reports: Vec<_> = names.iter().map(|name| report(name)).collect();
    exporter.publish(&reports);
    let stats = exporter.shutdown(20 * SECOND).await;
    assert_eq!(stats.logs.accepted, MANY as u64, "{stats:?}");
    let served: BTreeSet<_> = services(&server).into_iter().flatten().collect();
    assert_eq!(served, names);
}

/// The exporters of `opentelemetry-otlp` read the environment as Stethos does. A process of its
/// own has the variables set; this is both processes.
#[tokio::test]
async fn what_the_environment_says_is_applied_once() {
    const NAME: &str = "what_the_environment_says_is_applied_once";
    const CHILD: &str = "STETHOS_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let stats = export(ExportConfig::from_environment().unwrap()).await;
        assert_eq!(stats.logs.accepted, 2, "{stats:?}");
        return;
    }
    let http = HttpServer::start([Answer::status(200)]).await;
    let grpc = GrpcServer::start([]).await;
    for (protocol, endpoint) in [
        ("http/protobuf", http.endpoint()),
        ("grpc", grpc.endpoint()),
    ] {
        let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
        child
            .args([NAME, "--exact"])
            .env_clear()
            .envs([
                (CHILD, "1"),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
                ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
                ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%2520b"),
                ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
                ("OTEL_TRACES_EXPORTER", "none"),
                ("OTEL_METRICS_EXPORTER", "none"),
            ])
            .kill_on_drop(true);
        let output = child.output().await.unwrap();
        assert!(output.status.success(), "{protocol}: {output:?}");
    }
    let request = &http.requests()[0];
    let head = request.head.to_ascii_lowercase();
    let lines = |name: &str| {
        head.lines()
            .filter(|l| l.starts_with(name))
            .collect::<Vec<_>>()
    };
    assert_eq!(lines("api-key"), ["api-key: a%20b"]);
    assert_eq!(lines("content-encoding"), ["content-encoding: gzip"]);
    assert_eq!(lines("user-agent").len(), 1);
    let mut body = Vec::new();
    GzDecoder::new(&*request.body)
        .read_to_end(&mut body)
        .unwrap();
    let sent = ExportLogsServiceRequest::decode(&*body).unwrap();
    assert_eq!(sent.resource_logs[0].scope_logs[0].log_records.len(), 2);

    let request = &grpc.requests()[0];
    let keys: Vec<_> = request.metadata.get_all("api-key").iter().collect();
    assert_eq!(keys, ["a%20b"]);
    assert_eq!(
        request.message.resource_logs[0].scope_logs,
        sent.resource_logs[0].scope_logs
    );
}

#[tokio::test]
async fn grpc_failures_are_retried_and_a_partial_success_is_not() {
    let answers = [
        Err(Status::new(Code::Unavailable, "not now")),
        Err(Status::new(Code::Aborted, "again")),
        Ok((2, "all too old")),
    ];
    let server = GrpcServer::start(answers).await;
    let stats = export(settings("grpc", &server.endpoint(), &[])).await;
    assert_eq!(stats.logs.retries, 2, "{stats:?}");
    assert_eq!(
        (stats.logs.accepted, stats.logs.rejected),
        (0, 2),
        "{stats:?}"
    );
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn grpc_refusals_are_counted_and_not_retried() {
    let server = GrpcServer::start([Err(Status::new(Code::PermissionDenied, "no"))]).await;
    let headers = [("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x")];
    let stats = export(settings("grpc", &server.endpoint(), &headers)).await;
    assert_eq!(
        (stats.logs.accepted, stats.logs.retries),
        (0, 0),
        "{stats:?}"
    );
    assert_eq!(stats.logs.dropped_unsent, 2, "{stats:?}");
    let requests = server.requests();
    assert_eq!(
        requests[0].metadata.get("authorization").unwrap(),
        "Bearer x"
    );
    assert_eq!(
        requests[0].message.resource_logs[0].scope_logs[0]
            .log_records
            .len(),
        2
    );
}

#[tokio::test]
async fn a_silent_collector_costs_bounded_memory_and_ends_with_the_deadline() {
    let server = HttpServer::start([Answer::silence(), Answer::silence()]).await;
    let small = [
        ("OTEL_BLRP_MAX_QUEUE_SIZE", "8"),
        ("OTEL_BLRP_SCHEDULE_DELAY", "1"),
    ];
    let config = settings("http/protobuf", &server.endpoint(), &small);
    let mut exporter = Exporter::new(config).unwrap();
    for _ in 0..50 {
        exporter.publish(&reports());
    }
    assert_eq!(
        exporter.stats().logs.dropped_full,
        92,
        "{:?}",
        exporter.stats()
    );
    let stats = exporter.shutdown(SECOND / 5).await;
    assert_eq!(
        stats.logs.dropped_full + stats.logs.dropped_unsent,
        100,
        "{stats:?}"
    );
    assert_eq!(stats.logs.accepted, 0);
}

#[tokio::test]
async fn a_batch_is_given_up_when_its_time_is_over() {
    let limited = [
        ("OTEL_BLRP_EXPORT_TIMEOUT", "600"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "100"),
    ];
    let server = HttpServer::start([]).await;
    let stats = export(settings("http/protobuf", &server.endpoint(), &limited)).await;
    assert_eq!(
        (stats.logs.accepted, stats.logs.dropped_unsent),
        (0, 2),
        "{stats:?}"
    );
}

#[tokio::test]
async fn what_the_collector_does_not_take_is_sent_by_the_next_process_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = Some(OutboxConfig {
        folder: folder.path().to_owned(),
        bytes: 1 << 20,
    });
    let config = |endpoint: &str| ExportConfig {
        outbox: outbox.clone(),
        ..settings("http/protobuf", endpoint, &[])
    };
    let away = HttpServer::start([Answer::status(503), Answer::hang_up()]).await;
    let mut exporter = Exporter::new(config(&away.endpoint())).unwrap();
    exporter.publish(&[report("a"), report("b")]);
    let stats = exporter.shutdown(SECOND).await.logs;
    let counts = (stats.accepted, stats.dropped_unsent, stats.kept);
    assert_eq!(counts, (0, 0, 2), "{stats:?}");
    assert!(stats.retries > 0);

    let server = HttpServer::start([200, 200, 200].map(Answer::status)).await;
    let mut exporter = Exporter::new(config(&server.endpoint())).unwrap();
    exporter.publish(&[report("c")]);
    let stats = exporter.shutdown(20 * SECOND).await.logs;
    assert_eq!((stats.accepted, stats.kept), (3, 0), "{stats:?}");
    assert_eq!(services(&server), [["a"], ["b"], ["c"]]);
    let left = std::fs::read_dir(folder.path().join("logs")).unwrap();
    assert_eq!(left.count(), 0);
}

#[tokio::test]
async fn a_disabled_sdk_exports_nothing() {
    let server = HttpServer::start([Answer::status(200)]).await;
    let disabled = [("OTEL_SDK_DISABLED", "true")];
    let stats = export(settings("http/protobuf", &server.endpoint(), &disabled)).await;
    assert_eq!(stats, ExportStats::default());
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn certificate_files_that_cannot_be_read_are_named() {
    let missing = [("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nonexistent/ca.pem")];
    for protocol in ["grpc", "http/protobuf"] {
        let error = Exporter::new(settings(protocol, "https://localhost:1", &missing)).unwrap_err();
        assert!(
            error.to_string().starts_with("/nonexistent/ca.pem: "),
            "{error}"
        );
    }
}
