//! The exporter against a real OTLP collector (Rotel), over gRPC and HTTP. The binary's path is in
//! `STETHOS_ROTEL`; without it the tests say that they are skipped.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "otlp/reports.rs"]
mod reports;
#[path = "otlp/rotel.rs"]
mod rotel;

use std::time::Duration;

use reports::{UNIX_OFFSET, affected, diagnosis, own_span, resource};
use rotel::{Received, Rotel, binary_or_skip, free_ports};
use stethos::diagnosis::report::IncidentState;
use stethos::export::{Contexts, ExportConfig, Exporter};
use stethos::record::Account;
use stethos::trace::Context;

const SECOND: Duration = Duration::from_secs(1);

/// The exporter's settings for a protocol, as the environment gives them.
fn settings(protocol: &str, (grpc, http): (u16, u16), more: &[(&str, &str)]) -> ExportConfig {
    let port = if protocol == "grpc" { grpc } else { http };
    let endpoint = format!("http://127.0.0.1:{port}");
    let given = |name: &str| {
        more.iter()
            .find(|(n, _)| *n == name)
            .map(|(_, v)| v.to_string())
    };
    ExportConfig::read(&|name| match name {
        "OTEL_EXPORTER_OTLP_PROTOCOL" => Some(protocol.to_owned()),
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(endpoint.clone()),
        _ => given(name),
    })
    .unwrap()
}

/// A whole incident of a service, its affected request under the service's own span.
fn incident(service: &str, trace: u8) -> Vec<stethos::export::Published> {
    let mut reports = vec![
        diagnosis(service, IncidentState::Suspected, 1_050, Context::default()),
        affected(service, 1_000, 1_004, own_span(trace)),
        diagnosis(service, IncidentState::Confirmed, 1_500, Context::default()),
        diagnosis(service, IncidentState::Resolved, 9_000, Context::default()),
    ];
    Contexts::default().complete(&mut reports);
    reports
}

fn assert_incident(received: &Received, service: &str, trace: u8) {
    let of_service = format!("Str({service})");
    let (trace_id, span_id) = (
        format!("{trace:02x}").repeat(16),
        format!("{trace:02x}").repeat(8),
    );
    let spans: Vec<_> = received
        .spans
        .iter()
        .filter(|s| s.service() == of_service)
        .collect();
    let named = |name: &str| {
        let found = spans.iter().find(|s| s.field("Name") == name);
        *found.unwrap_or_else(|| panic!("no span {name} of {service} in {spans:#?}"))
    };
    assert_eq!(spans.len(), 3);

    let fault = named("stethos.fault dependency.refused");
    assert_eq!(fault.field("Trace ID"), trace_id);
    assert_eq!(fault.field("Parent ID"), span_id);
    assert_eq!(fault.field("Kind"), "SPAN_KIND_INTERNAL");
    assert_eq!(fault.field("Status code"), "STATUS_CODE_ERROR");
    assert_eq!(
        fault.field("Start time"),
        (UNIX_OFFSET + 1_000_000_000).to_string()
    );
    assert_eq!(
        fault.field("End time"),
        (UNIX_OFFSET + 1_004_000_000).to_string()
    );
    assert_eq!(fault.attribute("stethos.fault"), "Bool(true)");
    assert_eq!(fault.attribute("stethos.trace.parent"), "Str(own)");
    let evidence = "Slice(Str(connect ECONNREFUSED 0 → 38/s), Str(not local))";
    assert_eq!(fault.attribute("stethos.fault.evidence"), evidence);

    for root in [
        named("stethos.fault.confirmed dependency.refused"),
        named("stethos.incident dependency.refused"),
    ] {
        assert_eq!(root.field("Parent ID"), "");
        assert_ne!(root.field("Trace ID"), trace_id);
        assert_eq!(root.links[0].get("Trace ID"), Some(&trace_id));
        assert_eq!(root.attribute("stethos.fault.evidence"), evidence);
    }

    let logs: Vec<_> = received
        .logs
        .iter()
        .filter(|l| l.service() == of_service)
        .collect();
    let severities: Vec<_> = logs.iter().map(|l| l.field("SeverityText")).collect();
    assert_eq!(severities, ["WARN", "ERROR", "INFO"]);
    for log in logs {
        assert_eq!(log.field("EventName"), "stethos.fault.diagnosis");
        assert_eq!(log.field("Trace ID"), trace_id);
        assert_eq!(log.field("Span ID"), span_id);
        assert_eq!(log.field("Flags"), "1");
        assert_eq!(
            log.field("Timestamp"),
            (UNIX_OFFSET + 1_000_000_000).to_string()
        );
        assert_eq!(log.attribute("error.type"), "Str(dependency.refused)");
        assert_eq!(log.attribute("stethos.fault.evidence"), evidence);
        assert_eq!(
            log.resource.get("container.id").map(String::as_str),
            Some("Str(c0ffee)")
        );
    }
}

async fn incidents_arrive(test: &str, protocol: &str, compression: &str) {
    let Some(binary) = binary_or_skip(test) else {
        return;
    };
    let ports = free_ports();
    let rotel = Rotel::start(&binary, ports);
    let compression = [("OTEL_EXPORTER_OTLP_COMPRESSION", compression)];
    let mut exporter = Exporter::new(settings(protocol, ports, &compression)).unwrap();
    exporter.publish(&incident("shop-api", 0x4b));
    exporter.publish(&incident("shop-catalog", 0x5c));
    let received = rotel
        .received(|r| r.spans.len() >= 6 && r.logs.len() >= 6)
        .await;
    assert_incident(&received, "shop-api", 0x4b);
    assert_incident(&received, "shop-catalog", 0x5c);
    let stats = exporter.shutdown(5 * SECOND).await;
    assert_eq!(
        (stats.logs.accepted, stats.spans.accepted),
        (6, 6),
        "{stats:?}"
    );
    assert_eq!(
        stats.logs.dropped_full + stats.logs.dropped_unsent + stats.logs.rejected,
        0
    );
}

#[tokio::test]
async fn incidents_arrive_over_grpc() {
    incidents_arrive("incidents_arrive_over_grpc", "grpc", "none").await;
}

#[tokio::test]
async fn incidents_arrive_over_http() {
    incidents_arrive("incidents_arrive_over_http", "http/protobuf", "none").await;
}

#[tokio::test]
async fn incidents_arrive_compressed_over_grpc() {
    incidents_arrive("incidents_arrive_compressed_over_grpc", "grpc", "gzip").await;
}

#[tokio::test]
async fn incidents_arrive_compressed_over_http() {
    incidents_arrive(
        "incidents_arrive_compressed_over_http",
        "http/protobuf",
        "gzip",
    )
    .await;
}

#[tokio::test]
async fn diagnoses_wait_for_a_collector_that_comes_late() {
    let Some(binary) = binary_or_skip("diagnoses_wait_for_a_collector_that_comes_late") else {
        return;
    };
    for protocol in ["grpc", "http/protobuf"] {
        let ports = free_ports();
        let mut exporter = Exporter::new(settings(protocol, ports, &[])).unwrap();
        exporter.publish(&incident("shop-api", 0x4b));
        tokio::time::sleep(SECOND).await;
        let rotel = Rotel::start(&binary, ports);
        let received = rotel
            .received(|r| r.spans.len() >= 3 && r.logs.len() >= 3)
            .await;
        assert_incident(&received, "shop-api", 0x4b);
        let stats = exporter.shutdown(5 * SECOND).await;
        assert!(stats.logs.retries > 0, "{protocol}: {stats:?}");
        assert_eq!(
            (stats.logs.accepted, stats.spans.accepted),
            (3, 3),
            "{protocol}: {stats:?}"
        );
    }
}

#[tokio::test]
async fn metrics_arrive_under_the_application_and_under_stethos() {
    let Some(binary) = binary_or_skip("metrics_arrive_under_the_application_and_under_stethos")
    else {
        return;
    };
    let ports = free_ports();
    let rotel = Rotel::start(&binary, ports);
    let often = [("OTEL_METRIC_EXPORT_INTERVAL", "100")];
    let exporter = Exporter::new(settings("grpc", ports, &often)).unwrap();
    let mut container = exporter.meters().container(&resource("shop-api"));
    container.account(&Account {
        seen: 40,
        delivered: 38,
        lost_ring_full: 2,
        ..Account::default()
    });
    container.stability(0.75);
    rotel
        .received(|_| rotel.text().contains("stethos.stability"))
        .await;
    let stats = exporter.shutdown(5 * SECOND).await;
    assert!(stats.metrics.accepted > 0, "{stats:?}");
    let text = rotel.text();
    for expected in [
        "service.name: Str(shop-api)",
        "service.name: Str(stethos)",
        "stethos.calls",
        "stethos.capture.loss",
        "process.cpu.time",
        "process.memory.usage",
        "stethos.export.records",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
}
