//! The OTLP pass-through between the exporters of an SDK and a collector: a real one (Rotel) where its
//! binary is there, and simulated ones for answers that a real one seldom gives.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "otlp/reports.rs"]
mod reports;
#[path = "otlp/rotel.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod rotel;
#[path = "otlp/simulated.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod simulated;
#[path = "otlp/tls.rs"]
mod tls;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use reports::{affected, diagnosis, own_span};
use rotel::{Rotel, binary_or_skip, free_ports};
use simulated::{Answer, GrpcServer, HttpServer};
use stethos::diagnosis::report::IncidentState;
use stethos::export::{ExportConfig, Exporter};
use stethos::passthrough::{Passthrough, PassthroughConfig, PassthroughError};
use stethos::record::Nanos;
use stethos::trace::Context;
use tonic::{Code, Status};

const SECOND: Duration = Duration::from_secs(1);
const NOW: Nanos = 7_000_000_000;

fn config(grpc: Option<&str>, http: Option<&str>) -> PassthroughConfig {
    PassthroughConfig {
        listen: vec![(Ipv4Addr::LOCALHOST, 0).into()],
        grpc: grpc.map(|uri| uri.parse().unwrap()),
        http: http.map(|uri| uri.parse().unwrap()),
        certificate: None,
        client: None,
    }
}

async fn start(grpc: Option<&str>, http: Option<&str>) -> Passthrough {
    start_with(&config(grpc, http)).await
}

async fn start_with(config: &PassthroughConfig) -> Passthrough {
    Passthrough::start(config, || NOW, 1_000).await.unwrap()
}

fn address(passthrough: &Passthrough) -> String {
    format!("http://{}", passthrough.addresses()[0])
}

/// Spans and logs of an SDK arrive at a real collector, and are known here.
async fn an_sdk_notices_nothing(test: &str, protocol: &str, compression: &str) {
    let Some(binary) = binary_or_skip(test) else {
        return;
    };
    let ports = free_ports();
    let rotel = Rotel::start(&binary, ports);
    let (grpc, http) = (
        format!("http://127.0.0.1:{}", ports.0),
        format!("http://127.0.0.1:{}", ports.1),
    );
    let mut passthrough = start(Some(&grpc), Some(&http)).await;
    let endpoint = address(&passthrough);
    let config = ExportConfig::read(&|name| match name {
        "OTEL_EXPORTER_OTLP_PROTOCOL" => Some(protocol.to_owned()),
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(endpoint.clone()),
        "OTEL_EXPORTER_OTLP_COMPRESSION" => Some(compression.to_owned()),
        "OTEL_METRICS_EXPORTER" => Some("none".to_owned()),
        _ => None,
    });
    let mut exporter = Exporter::new(config.unwrap()).unwrap();
    exporter.publish(&[
        diagnosis("shop", IncidentState::Suspected, 1_050, Context::default()),
        affected("shop", 1_000, 1_004, own_span(0x4b)),
        diagnosis("shop", IncidentState::Confirmed, 1_500, Context::default()),
    ]);
    let stats = exporter.shutdown(10 * SECOND).await;
    assert_eq!((stats.logs.accepted, stats.spans.accepted), (2, 2));
    let received = rotel.received(|r| r.spans.len() >= 2 && r.logs.len() >= 2);
    let received = received.await;
    let at_collector = received.spans.iter().map(|span| span.field("ID"));
    let mut at_collector: Vec<String> = at_collector.map(str::to_owned).collect();

    let mut known = Vec::new();
    while known.len() < 2 {
        known.extend(passthrough.next().await);
    }
    let hex = |id: [u8; 8]| id.map(|byte| format!("{byte:02x}")).concat();
    let mut ids: Vec<String> = known.iter().map(|span| hex(span.span.span_id)).collect();
    ids.sort();
    at_collector.sort();
    assert_eq!(ids, at_collector);
    let fault = known.iter().find(|span| span.parent == Some([0x4b; 8]));
    assert_eq!(fault.unwrap().span.trace_id, [0x4b; 16]);
    assert_eq!(fault.unwrap().at_ns, NOW);
    let stats = passthrough.stats();
    assert_eq!((stats.spans, stats.unread), (2, 0), "{stats:?}");
}

#[tokio::test]
async fn an_sdk_notices_nothing_over_grpc() {
    an_sdk_notices_nothing("an_sdk_notices_nothing_over_grpc", "grpc", "none").await;
}

#[tokio::test]
async fn an_sdk_notices_nothing_compressed_over_grpc() {
    let test = "an_sdk_notices_nothing_compressed_over_grpc";
    an_sdk_notices_nothing(test, "grpc", "gzip").await;
}

#[tokio::test]
async fn an_sdk_notices_nothing_over_http() {
    an_sdk_notices_nothing("an_sdk_notices_nothing_over_http", "http/protobuf", "none").await;
}

#[tokio::test]
async fn an_sdk_notices_nothing_compressed_over_http() {
    let test = "an_sdk_notices_nothing_compressed_over_http";
    an_sdk_notices_nothing(test, "http/protobuf", "gzip").await;
}

#[tokio::test]
async fn bytes_headers_and_status_pass_unchanged_over_http() {
    let busy = Answer::status(429)
        .header("Retry-After: 17")
        .header("X-Of-Collector: yes");
    let collector = HttpServer::start([busy, Answer::partial_success(3, "old")]).await;
    let passthrough = start(None, Some(&format!("{}/below", collector.endpoint()))).await;
    let client = reqwest::Client::new();
    let post = |path: &str, body: Vec<u8>| {
        client
            .post(format!("{}{path}", address(&passthrough)))
            .header("content-type", "application/x-protobuf")
            .header("content-encoding", "gzip")
            .header("api-key", "secret")
            .body(body)
            .send()
    };
    // No OTLP at all: that is the collector's affair.
    let body: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let answer = post("/v1/traces", body.clone()).await.unwrap();
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers()["retry-after"], "17");
    assert_eq!(answer.headers()["x-of-collector"], "yes");
    let answer = post("/v1/logs?a=b", vec![1]).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(!answer.bytes().await.unwrap().is_empty());

    let requests = collector.requests();
    let heads: Vec<String> = requests
        .iter()
        .map(|r| r.head.to_ascii_lowercase())
        .collect();
    assert!(
        heads[0].starts_with("post /below/v1/traces http/1.1"),
        "{}",
        heads[0]
    );
    assert!(
        heads[1].starts_with("post /below/v1/logs?a=b "),
        "{}",
        heads[1]
    );
    for head in &heads {
        for line in ["api-key: secret", "content-encoding: gzip"] {
            assert!(head.contains(line), "{head}");
        }
    }
    assert_eq!(
        (&requests[0].body, &requests[1].body[..]),
        (&body, &[1][..])
    );
    while passthrough.stats().unread == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let stats = passthrough.stats();
    assert_eq!((stats.requests, stats.unread, stats.spans), (1, 1, 0));
}

#[tokio::test]
async fn answers_and_failures_pass_unchanged_over_grpc() {
    let busy = Status::new(Code::ResourceExhausted, "slow down");
    let collector = GrpcServer::start([Ok((2, "two are old")), Err(busy)]).await;
    let passthrough = start(Some(&collector.endpoint()), None).await;
    let mut client = LogsServiceClient::connect(address(&passthrough))
        .await
        .unwrap();
    let mut request = tonic::Request::new(ExportLogsServiceRequest::default());
    request
        .metadata_mut()
        .insert("api-key", "secret".parse().unwrap());
    let answer = client.export(request).await.unwrap().into_inner();
    let partial = answer.partial_success.unwrap();
    assert_eq!(
        (partial.rejected_log_records, partial.error_message.as_str()),
        (2, "two are old")
    );
    assert_eq!(
        collector.requests()[0].metadata.get("api-key").unwrap(),
        "secret"
    );
    let status = client
        .export(ExportLogsServiceRequest::default())
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::ResourceExhausted, "slow down")
    );
}

#[tokio::test]
async fn a_collector_that_is_away_is_unavailable_until_it_is_back() {
    let (grpc, http) = free_ports();
    let local = |port: u16| format!("http://127.0.0.1:{port}");
    let passthrough = start(Some(&local(grpc)), Some(&local(http))).await;
    let post = || {
        let address = format!("{}/v1/metrics", address(&passthrough));
        reqwest::Client::new().post(address).body("x").send()
    };
    let answer = post().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(
        answer.text().await.unwrap(),
        "stethos does not reach the collector"
    );
    let mut client = LogsServiceClient::connect(address(&passthrough))
        .await
        .unwrap();
    let status = client
        .export(ExportLogsServiceRequest::default())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);

    let back: SocketAddr = (Ipv4Addr::LOCALHOST, http).into();
    let listener = tokio::net::TcpListener::bind(back).await.unwrap();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let answer = b"HTTP/1.1 204 x\r\nConnection: close\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut stream, answer)
            .await
            .unwrap();
    });
    assert_eq!(post().await.unwrap().status(), 204);
    served.await.unwrap();
}

#[tokio::test]
async fn a_protocol_without_a_collector_and_an_address_in_use_are_said() {
    let passthrough = start(None, None).await;
    let address = passthrough.addresses()[0];
    let answer = reqwest::Client::new().post(format!("http://{address}/v1/traces"));
    assert_eq!(answer.send().await.unwrap().status(), 503);
    let again = PassthroughConfig {
        listen: vec![address],
        ..config(None, None)
    };
    let Err(error) = Passthrough::start(&again, || NOW, 0).await else {
        panic!("it listens twice");
    };
    assert!(matches!(error, PassthroughError::Listen { .. }));
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn a_collector_may_ask_for_a_certificate() {
    let grpc = GrpcServer::start_with(Some(tls::grpc()), []).await;
    let http = HttpServer::start_with(Some(tls::http()), [Answer::status(202)]).await;
    let stranger = config(Some(&grpc.endpoint()), Some(&http.endpoint()));
    let nameless = PassthroughConfig {
        certificate: Some(tls::file("authority.pem")),
        ..stranger.clone()
    };
    let known = PassthroughConfig {
        client: Some((tls::file("client.pem"), tls::file("client.key"))),
        ..nameless.clone()
    };
    for (config, is_let_in) in [(stranger, false), (nameless, false), (known, true)] {
        let passthrough = start_with(&config).await;
        let post = reqwest::Client::new().post(format!("{}/v1/logs", address(&passthrough)));
        let answer = post.body("x").send().await.unwrap();
        assert_eq!(answer.status(), if is_let_in { 202 } else { 503 });
        let client = LogsServiceClient::connect(address(&passthrough)).await;
        let mut client = client.unwrap();
        let answer = client.export(ExportLogsServiceRequest::default()).await;
        let code = answer.map_or_else(|status| status.code(), |_| Code::Ok);
        let expected = if is_let_in {
            Code::Ok
        } else {
            Code::Unavailable
        };
        assert_eq!(code, expected);
    }
    assert_eq!((grpc.requests().len(), http.requests().len()), (1, 1));
}
