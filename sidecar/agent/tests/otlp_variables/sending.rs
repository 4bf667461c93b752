//! Where, how and whether records are sent.

use std::collections::BTreeSet;
use std::io::Read as _;

use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use prost::Message;
use stethos::export::ExportStats;

use super::simulated::{Answer, GrpcServer, HttpServer};
use super::{LOGS, METRICS, TRACES, accepting, export, exporter, incident, tls, until};

const SIGNALS: [(&str, &str); 3] = [("LOGS", LOGS), ("TRACES", TRACES), ("METRICS", METRICS)];
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const PROTOCOLS: [&str; 2] = ["http/protobuf", "grpc"];
const LOGS_ALONE: [(&str, &str); 2] = [
    ("OTEL_TRACES_EXPORTER", "none"),
    ("OTEL_METRICS_EXPORTER", "none"),
];

/// Logs alone.
async fn export_logs(variables: &[(&str, &str)]) -> ExportStats {
    export(&[&LOGS_ALONE[..], variables].concat()).await
}

fn paths(server: &HttpServer) -> BTreeSet<String> {
    let requests = server.requests().into_iter();
    let paths = requests.filter_map(|r| r.head.split(' ').nth(1).map(str::to_owned));
    paths.collect()
}

/// The values of a header in each request.
fn header(server: &HttpServer, name: &str) -> Vec<Vec<String>> {
    let start = format!("{name}: ");
    let values = |head: &str| {
        let lines = head.lines().map(str::to_ascii_lowercase);
        lines
            .filter_map(|l| l.strip_prefix(&start).map(str::to_owned))
            .collect()
    };
    server.requests().iter().map(|r| values(&r.head)).collect()
}

#[tokio::test]
async fn a_general_endpoint_takes_each_signal_at_its_path() {
    let server = accepting().await;
    export(&[(ENDPOINT, &format!("{}/otlp/?key=a", server.endpoint()))]).await;
    let expected = SIGNALS.map(|(_, path)| format!("/otlp{path}?key=a"));
    assert_eq!(paths(&server), expected.into());
}

#[tokio::test]
async fn a_signals_own_endpoint_is_used_as_it_is() {
    for (signal, path) in SIGNALS {
        let (general, own) = (accepting().await, accepting().await);
        let name = format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT");
        for (url, expected) in [
            (own.endpoint(), "/"),
            (format!("{}/own/", own.endpoint()), "/own/"),
        ] {
            export(&[(ENDPOINT, &general.endpoint()), (&name, &url)]).await;
            assert!(paths(&own).contains(expected), "{:?}", paths(&own));
        }
        assert_eq!(paths(&own).len(), 2);
        assert!(!paths(&general).contains(path));
        assert_eq!(paths(&general).len(), 2);
    }
}

#[tokio::test]
async fn the_protocol_is_chosen_for_all_signals_and_for_each() {
    let (grpc, http) = (GrpcServer::start([]).await, accepting().await);
    export(&[
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "HTTP/protobuf"),
        (ENDPOINT, &http.endpoint()),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", &grpc.endpoint()),
    ])
    .await;
    assert_eq!(grpc.requests().len(), 1);
    assert_eq!(paths(&http), [TRACES, METRICS].map(str::to_owned).into());
}

#[tokio::test]
async fn headers_arrive_decoded_over_both_protocols() {
    let (grpc, http) = (GrpcServer::start([]).await, accepting().await);
    let general = ("OTEL_EXPORTER_OTLP_HEADERS", "Api-Key=a%20b%2C, x=y=z");
    for (protocol, endpoint) in PROTOCOLS
        .into_iter()
        .zip([http.endpoint(), grpc.endpoint()])
    {
        let protocol = ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol);
        let endpoint = (ENDPOINT, endpoint.as_str());
        export_logs(&[general, protocol, endpoint]).await;
        let own = ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "x=own");
        export_logs(&[general, protocol, endpoint, own]).await;
    }
    assert_eq!(header(&http, "api-key"), [vec!["a b,"], vec![]]);
    assert_eq!(header(&http, "x"), [["y=z"], ["own"]]);
    let over_grpc = |name| {
        let requests = grpc.requests();
        let values = requests.iter().map(|r| r.metadata.get(name).cloned());
        let texts = values.map(|v| v.map(|v| v.to_str().unwrap().to_owned()));
        texts.collect::<Vec<_>>()
    };
    assert_eq!(over_grpc("api-key"), [Some("a b,".to_owned()), None]);
    assert_eq!(over_grpc("x"), ["y=z", "own"].map(|v| Some(v.to_owned())));
}

#[tokio::test]
async fn bodies_are_packed_where_it_is_asked_for() {
    let http = accepting().await;
    let endpoint = (ENDPOINT, &*http.endpoint());
    let gzip = ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip");
    export_logs(&[endpoint, gzip]).await;
    let none = ("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "none");
    export_logs(&[endpoint, gzip, none]).await;
    assert_eq!(header(&http, "content-encoding"), [vec!["gzip"], vec![]]);
    let records = |body: &[u8]| {
        let sent = ExportLogsServiceRequest::decode(body).unwrap();
        sent.resource_logs[0].scope_logs.clone()
    };
    let requests = http.requests();
    let mut unpacked = Vec::new();
    let mut reader = GzDecoder::new(&*requests[0].body);
    reader.read_to_end(&mut unpacked).unwrap();
    assert_eq!(records(&unpacked), records(&requests[1].body));

    let grpc = GrpcServer::start([]).await;
    let grpc_variables = [
        (ENDPOINT, &*grpc.endpoint()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ];
    export_logs(&[&grpc_variables[..], &[gzip]].concat()).await;
    export_logs(&grpc_variables).await;
    let requests = grpc.requests();
    let packing = requests.iter().map(|r| r.metadata.get("grpc-encoding"));
    let packing: Vec<_> = packing.map(|v| v.map(|v| v.as_bytes())).collect();
    assert_eq!(packing, [Some(&b"gzip"[..]), None]);
    for request in &requests {
        assert_eq!(
            request.message.resource_logs[0].scope_logs,
            records(&unpacked)
        );
    }
}

/// Sends logs to a server that demands a certificate; whether they were taken.
async fn over_tls(protocol: &str, files: &[(&str, &str)]) -> bool {
    let http = HttpServer::start_with(Some(tls::http()), [Answer::status(200)]);
    let grpc = GrpcServer::start_with(Some(tls::grpc()), []);
    let (http, grpc) = (http.await, grpc.await);
    let endpoint = match protocol {
        "grpc" => grpc.endpoint(),
        _ => http.endpoint(),
    };
    let paths = files.iter().map(|(name, file)| {
        let path = tls::file(file).display().to_string();
        (format!("OTEL_EXPORTER_OTLP_{name}"), path)
    });
    let paths: Vec<_> = paths.collect();
    let mut variables = vec![
        (ENDPOINT, endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
        ("OTEL_BLRP_EXPORT_TIMEOUT", "700"),
    ];
    variables.extend(paths.iter().map(|(name, path)| (&**name, &**path)));
    // Where it is refused, attempts end by the time-out.
    let stats = export_logs(&variables).await;
    let arrived = http.requests().len() + grpc.requests().len();
    assert_eq!(stats.logs.accepted, 2 * arrived as u64, "{stats:?}");
    arrived > 0
}

#[tokio::test]
async fn certificates_are_trusted_and_shown_over_both_protocols() {
    let trust = ("CERTIFICATE", "authority.pem");
    let client = [
        ("CLIENT_CERTIFICATE", "client.pem"),
        ("CLIENT_KEY", "client.key"),
    ];
    for protocol in PROTOCOLS {
        let all = [&client[..], &[trust]].concat();
        assert!(over_tls(protocol, &all).await, "{protocol}");
        assert!(!over_tls(protocol, &[trust]).await, "{protocol}: nameless");
        assert!(!over_tls(protocol, &client).await, "{protocol}: no trust");
    }
}

#[tokio::test]
async fn a_signals_own_certificates_stand_over_the_general_ones() {
    for protocol in PROTOCOLS {
        let files = [
            ("CERTIFICATE", "missing"),
            ("CLIENT_CERTIFICATE", "missing"),
            ("CLIENT_KEY", "missing"),
            ("LOGS_CERTIFICATE", "authority.pem"),
            ("LOGS_CLIENT_CERTIFICATE", "client.pem"),
            ("LOGS_CLIENT_KEY", "client.key"),
        ];
        assert!(over_tls(protocol, &files).await, "{protocol}");
    }
}

#[tokio::test]
async fn a_grpc_endpoint_without_a_scheme_is_secure_unless_it_is_said() {
    let insecure = ("OTEL_EXPORTER_OTLP_INSECURE", "True");
    let files = ["authority.pem", "client.pem", "client.key"].map(tls::file);
    let [authority, client, key] = files.each_ref().map(|path| path.to_str().unwrap());
    let secure = [
        ("OTEL_EXPORTER_OTLP_LOGS_INSECURE", "false"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", authority),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", client),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", key),
    ];
    for (tls, variables) in [(None, &[][..]), (Some(tls::grpc()), &secure)] {
        let server = GrpcServer::start_with(tls, []).await;
        let endpoint = server.endpoint();
        let (_, address) = endpoint.split_once("://").unwrap();
        let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        export_logs(&[&[grpc, (ENDPOINT, address), insecure][..], variables].concat()).await;
        assert_eq!(server.requests().len(), 1, "{endpoint}");
    }
}

/// With the default of ten seconds, so many attempts would take longer than a test waits.
#[tokio::test]
async fn an_attempt_ends_by_the_time_out() {
    const ATTEMPTS: u64 = 3;
    for name in [
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "OTEL_EXPORTER_OTLP_LOGS_TIMEOUT",
    ] {
        let silent = (0..ATTEMPTS).map(|_| Answer::silence());
        let server = HttpServer::start(silent.chain([Answer::status(200)])).await;
        let unlimited = ("OTEL_EXPORTER_OTLP_TIMEOUT", "0");
        let variables = [(ENDPOINT, &*server.endpoint()), (name, "100"), unlimited];
        let logs = export_logs(&variables).await.logs;
        assert_eq!((logs.retries, logs.accepted), (ATTEMPTS, 2), "{name}");
    }
    // It takes connections and says nothing.
    let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let exporter = &mut exporter(&[
        (ENDPOINT, &endpoint),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "100"),
    ]);
    exporter.publish(&incident(1));
    until(|| exporter.stats().logs.retries >= ATTEMPTS).await;
}

#[tokio::test]
async fn of_a_signal_without_an_exporter_nothing_is_sent() {
    for (signal, path) in SIGNALS {
        let server = accepting().await;
        let name = format!("OTEL_{signal}_EXPORTER");
        export(&[(ENDPOINT, &server.endpoint()), (&name, "none")]).await;
        let mut expected: BTreeSet<_> = SIGNALS.map(|(_, path)| path.to_owned()).into();
        expected.remove(path);
        assert_eq!(paths(&server), expected);
        export(&[(ENDPOINT, &server.endpoint()), (&name, "console,otlp")]).await;
        assert!(paths(&server).contains(path));
    }
}

#[tokio::test]
async fn where_the_sdk_is_disabled_nothing_is_sent() {
    let server = accepting().await;
    let endpoint = (ENDPOINT, &*server.endpoint());
    let stats = export(&[endpoint, ("OTEL_SDK_DISABLED", "TRUE")]).await;
    assert_eq!(stats, ExportStats::default());
    assert!(server.requests().is_empty());
    export(&[endpoint, ("OTEL_SDK_DISABLED", "1")]).await;
    assert_eq!(paths(&server).len(), 3);
}
