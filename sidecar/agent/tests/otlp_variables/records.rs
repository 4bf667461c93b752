//! How records are gathered, how large they are, and whose they are.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use stethos::diagnosis::report::IncidentState;
use stethos::export::{ExportStats, PodInfo, Published, Resource, SignalStats};
use stethos::record::{ContainerInfo, ProcessInfo};
use stethos::trace::Context;
use tokio::time::sleep;

use super::reports::diagnosis;
use super::simulated::HttpServer;
use super::{
    LOGS, METRICS, PATIENCE, accepting, export, exporter, incident, logs, sent, spans, texts, until,
};

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const NO_METRICS: (&str, &str) = ("OTEL_METRICS_EXPORTER", "none");

/// What the variables of batches call a signal, how many of its records are in each request, and
/// what became of them.
type Kind = (
    &'static str,
    fn(&HttpServer) -> Vec<usize>,
    fn(&ExportStats) -> SignalStats,
);

const KINDS: [Kind; 2] = [
    (
        "OTEL_BLRP",
        |server| logs(server).iter().map(Vec::len).collect(),
        |stats| stats.logs,
    ),
    (
        "OTEL_BSP",
        |server| spans(server).iter().map(Vec::len).collect(),
        |stats| stats.spans,
    ),
];

#[tokio::test]
async fn a_batch_is_no_larger_than_its_bound() {
    for (kind, counts, _) in KINDS {
        let server = accepting().await;
        let name = format!("{kind}_MAX_EXPORT_BATCH_SIZE");
        let variables = [(ENDPOINT, &*server.endpoint()), (&name, "3"), NO_METRICS];
        let mut exporter = exporter(&variables);
        exporter.publish(&incident(7));
        exporter.shutdown(PATIENCE).await;
        assert_eq!(counts(&server), [3, 3, 2], "{kind}");
        let all: Vec<_> = KINDS.iter().flat_map(|kind| (kind.1)(&server)).collect();
        assert_eq!(all.len(), 4, "the other signal has one batch");
    }
}

#[tokio::test]
async fn a_queue_is_no_longer_than_its_bound() {
    for (kind, counts, became) in KINDS {
        let server = accepting().await;
        let name = format!("{kind}_MAX_QUEUE_SIZE");
        let variables = [(ENDPOINT, &*server.endpoint()), (&name, "5"), NO_METRICS];
        let mut exporter = exporter(&variables);
        // Nothing is taken from the queues meanwhile.
        exporter.publish(&incident(7));
        let stats = became(&exporter.shutdown(PATIENCE).await);
        assert_eq!(counts(&server), [5], "{kind}");
        assert_eq!((stats.accepted, stats.dropped_full), (5, 3), "{kind}");
    }
}

#[tokio::test]
async fn a_batch_is_gathered_for_its_delay() {
    for (kind, counts, _) in KINDS {
        let server = accepting().await;
        let name = format!("{kind}_SCHEDULE_DELAY");
        let day = (name.as_str(), "86400000");
        let mut exporter = exporter(&[(ENDPOINT, &*server.endpoint()), day, NO_METRICS]);
        exporter.publish(&incident(2));
        // Longer than without the variable.
        sleep(Duration::from_millis(500)).await;
        let end = diagnosis("api", IncidentState::Resolved, 1_200, Context::default());
        exporter.publish(&[end]);
        exporter.shutdown(PATIENCE).await;
        assert_eq!(counts(&server), [4], "{kind}");
    }
}

#[tokio::test]
async fn an_export_is_given_up_after_its_time() {
    for (kind, _, became) in KINDS {
        let server = HttpServer::start([]).await;
        let name = format!("{kind}_EXPORT_TIMEOUT");
        let mut exporter = exporter(&[
            (ENDPOINT, &server.endpoint()),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
            (&name, "100"),
            NO_METRICS,
        ]);
        exporter.publish(&incident(1));
        until(|| became(&exporter.stats()).dropped_unsent == 2).await;
    }
}

/// A log, and the spans of a request and of the confirmation.
async fn under(limits: &[(&str, &str)]) -> (Vec<super::LogRecord>, Vec<super::Span>) {
    let server = accepting().await;
    let variables = [(ENDPOINT, &*server.endpoint()), NO_METRICS];
    export(&[&variables[..], limits].concat()).await;
    (logs(&server).concat(), spans(&server).concat())
}

#[tokio::test]
async fn attributes_over_their_number_are_left_out_and_counted() {
    let general = ("OTEL_ATTRIBUTE_COUNT_LIMIT", "5");
    let (all_logs, all_spans) = under(&[]).await;
    for (limits, of_log, of_span) in [
        (&[general][..], 5, 5),
        (
            &[general, ("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "4")],
            4,
            5,
        ),
        (&[general, ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "3")], 5, 3),
    ] {
        let (logs, spans) = under(limits).await;
        for (log, whole) in logs.iter().zip(&all_logs) {
            assert_eq!(log.attributes.len(), of_log, "{limits:?}");
            let count = log.attributes.last().unwrap();
            assert_eq!(count.key, "otel.dropped_attributes_count");
            let dropped = whole.attributes.len() + 1 - of_log;
            let value = count.value.as_ref().unwrap().value.clone();
            assert_eq!(value, Some(super::Value::IntValue(dropped as i64)));
        }
        for (span, whole) in spans.iter().zip(&all_spans) {
            assert_eq!(span.attributes.len(), of_span, "{limits:?}");
            let dropped = (whole.attributes.len() - of_span) as u32;
            assert_eq!(span.dropped_attributes_count, dropped);
        }
        assert_eq!((logs.len(), spans.len()), (2, 2));
    }
}

#[tokio::test]
async fn long_values_are_cut_at_a_number_of_characters() {
    const WHOLE: &str = "connect ECONNREFUSED 0 → 38/s";
    // With the arrow as one.
    const CUT: &str = "connect ECONNREFUSED 0 →";
    let general = ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "24");
    for (limits, of_log, of_span) in [
        (&[][..], WHOLE, WHOLE),
        (&[general], CUT, CUT),
        (
            &[
                general,
                ("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", "3"),
            ],
            "con",
            CUT,
        ),
        (
            &[general, ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "3")],
            CUT,
            "con",
        ),
    ] {
        let (logs, spans) = under(limits).await;
        let evidence = "stethos.fault.evidence";
        assert_eq!(texts(&logs[0].attributes, evidence)[0], of_log);
        assert_eq!(texts(&spans[0].attributes, evidence)[0], of_span);
    }
}

#[tokio::test]
async fn links_over_their_number_are_left_out_and_counted() {
    let server = accepting().await;
    let limit = ("OTEL_SPAN_LINK_COUNT_LIMIT", "2");
    let mut exporter = exporter(&[(ENDPOINT, &*server.endpoint()), NO_METRICS, limit]);
    exporter.publish(&incident(7));
    exporter.shutdown(PATIENCE).await;
    let spans = spans(&server).concat();
    let confirmed = spans.iter().find(|span| span.name.contains("confirmed"));
    let confirmed = confirmed.unwrap();
    assert_eq!(confirmed.links.len(), 2);
    assert_eq!(confirmed.dropped_links_count, 5);
}

/// A diagnosis of an application with the given environment.
fn of_application(environment: &[(&str, &str)]) -> Published {
    let container = ContainerInfo {
        at_ns: 0,
        container: 0,
        name: "api".into(),
        id: None,
        cgroup_path: "/pod/api".into(),
        image: None,
        image_digest: None,
    };
    let own = |(key, value): &(&str, &str)| (key.to_string(), value.to_string());
    let process = ProcessInfo {
        at_ns: 0,
        container: 0,
        pid: 40,
        executable: "/usr/bin/api".into(),
        command_line: vec![],
        environment: environment.iter().map(own).collect(),
        listens: vec![],
    };
    let resource = Resource::of_application(&container, &[process], &|_| None, &PodInfo::default());
    Published {
        resource: Arc::new(resource),
        ..diagnosis("api", IncidentState::Suspected, 1_050, Context::default())
    }
}

#[tokio::test]
async fn applications_and_stethos_are_called_as_their_environments_say() {
    let name = ("OTEL_SERVICE_NAME", "checkout");
    let list = (
        "OTEL_RESOURCE_ATTRIBUTES",
        "service.name=listed,a%3Db=c%2Cd%20",
    );
    let cases = [
        (&[][..], "api", "stethos", None),
        (&[list], "listed", "listed", Some("c,d ")),
        (&[list, name], "checkout", "checkout", Some("c,d ")),
    ];
    for (environment, application, stethos, other) in cases {
        let server = accepting().await;
        let endpoint = [(ENDPOINT, &*server.endpoint())];
        let mut exporter = exporter(&[&endpoint[..], environment].concat());
        exporter.publish(&[of_application(environment)]);
        exporter.shutdown(PATIENCE).await;
        let logs = sent::<ExportLogsServiceRequest>(&server, LOGS);
        let metrics = sent::<ExportMetricsServiceRequest>(&server, METRICS);
        let of_application = logs[0].resource_logs[0].resource.clone().unwrap();
        let own = metrics[0].resource_metrics[0].resource.clone().unwrap();
        for (resource, name) in [(of_application, application), (own, stethos)] {
            assert_eq!(texts(&resource.attributes, "service.name"), [name]);
            let found = texts(&resource.attributes, "a=b");
            assert_eq!(found.first().copied(), other);
        }
    }
}
