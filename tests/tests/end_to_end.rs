//! The whole path on real parts: the shop, a redis-server, the sidecar, and an OTLP collector that
//! receives Stethos's logs and spans beside the shop's own spans.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a step that fails ends the test"
)]

use std::{fs, time::Duration};

use stethos_tests::{
    cgroup::Cgroup,
    collector::{Collector, Span},
    shop::{collector_or_skip, redis, shop},
    sidecar::Sidecar,
};

const TEST: &str = "faults_are_told_on_the_applications_own_traces";

/// The fault spans of a class that have a parent, once there are any.
fn fault_spans(collector: &Collector, name: &str) -> Vec<Span> {
    let name = format!("stethos.fault {name}");
    collector.wait("fault spans", Duration::from_secs(20), |received| {
        let spans: Vec<Span> = received
            .spans
            .iter()
            .filter(|span| span.name == name && span.parent.is_some())
            .cloned()
            .collect();
        (!spans.is_empty()).then_some(spans)
    })
}

#[test]
fn faults_are_told_on_the_applications_own_traces() {
    let Some(mut collector) = collector_or_skip(TEST) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let endpoint = collector.http_endpoint();
    let outside = Cgroup::new("outside").unwrap();
    let pod = Cgroup::new("shop").unwrap();
    let mut shop = shop(&pod, &outside, folder.path(), &endpoint).unwrap();
    let state = folder.path().join("state");
    let log = folder.path().join("stethos.log");
    let start = || {
        Sidecar::start(&outside, &pod, &state, &log, |command| {
            command
                .env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)
                .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
        })
        .unwrap()
    };
    let mut sidecar = start();
    sidecar.watching(3, Duration::from_secs(240));
    std::thread::sleep(Duration::from_secs(5));

    // A refused connection happens before the api writes anything: the caller's span is all that
    // there is.
    shop.redis.signal(libc::SIGKILL);
    shop.redis.0.wait().unwrap();
    let refused = sidecar.confirmed(&["dependency.refused"]);
    let spans = fault_spans(&collector, "dependency.refused");
    for span in &spans {
        let own = collector.wait("the api's spans", Duration::from_secs(20), |received| {
            let mut same = received.spans.iter().filter(|own| own.trace == span.trace);
            same.find(|own| own.service == "shop-api" && own.parent == span.parent)
                .cloned()
        });
        assert_eq!(
            span.attribute("stethos.trace.parent"),
            Some("caller"),
            "{span:#?} {own:#?}"
        );
        assert_eq!(span.service, "shop-api");
        assert_eq!(span.attribute("error.type"), Some("dependency.refused"));
        assert_eq!(span.attribute("stethos.fault"), Some("true"));
        let evidence = span.attribute("stethos.fault.evidence").unwrap_or_default();
        assert!(evidence.contains("ECONNREFUSED"), "{evidence}");
    }
    let trace = refused["trace_id"].as_str().unwrap_or_default().to_owned();
    let records = collector.wait("log records", Duration::from_secs(20), |received| {
        let records: Vec<_> = received
            .logs
            .iter()
            .filter(|record| record.attribute("error.type") == Some("dependency.refused"))
            .cloned()
            .collect();
        records
            .iter()
            .any(|record| record.severity == "ERROR")
            .then_some(records)
    });
    let confirmed = records
        .iter()
        .find(|record| record.severity == "ERROR")
        .unwrap();
    assert_eq!(confirmed.event, "stethos.fault.diagnosis");
    assert_eq!(confirmed.service, "shop-api");
    assert_eq!(confirmed.trace.as_deref(), Some(trace.as_str()));
    assert!(
        spans.iter().any(|span| span.trace == trace),
        "{trace} is not among {spans:#?}"
    );

    let port = shop.redis_port;
    shop.redis = redis(&pod, folder.path(), port).unwrap();
    sidecar.resolved();

    // A catalog that stops answering: the api has sent its own span along.
    std::thread::sleep(Duration::from_secs(5));
    shop.catalog.signal(libc::SIGSTOP);
    let hung = sidecar.confirmed(&["process.frozen", "dependency.hung"]);
    std::thread::sleep(Duration::from_secs(7));
    shop.catalog.signal(libc::SIGCONT);
    let spans = fault_spans(&collector, hung["error.type"].as_str().unwrap());
    let own: Vec<&Span> = spans
        .iter()
        .filter(|span| span.attribute("stethos.trace.parent") == Some("own"))
        .collect();
    assert!(!own.is_empty(), "no span under the api's own: {spans:#?}");
    for span in own {
        collector.wait(
            "the span that the fault span is under",
            Duration::from_secs(20),
            |all| {
                let mut same = all.spans.iter().filter(|own| own.trace == span.trace);
                same.find(|own| own.service == "shop-api" && Some(&own.id) == span.parent.as_ref())
                    .cloned()
            },
        );
    }
    sidecar.end();

    // What was learned is there at the next start.
    let mut again = start();
    let watching = again.watching(3, Duration::from_secs(20));
    assert!(
        watching.iter().all(|line| line["source"] == "state_dir"),
        "{watching:#?}"
    );
    for line in &watching {
        // The shop's services ask others before they answer: none of the built-in types.
        let expected = match line["container"].as_str() {
            Some("redis") => "key-value-cache",
            _ => "generic",
        };
        assert_eq!(line["stethos.application.type"], expected, "{line:#?}");
    }

    // A folder where a file was: no class of fault explains that, and Stethos says so.
    let prices = folder.path().join("config/prices.json");
    let kept = folder.path().join("prices.kept");
    fs::rename(&prices, &kept).unwrap();
    fs::create_dir(&prices).unwrap();
    let unknown = again.wait("diagnosis", Duration::from_secs(40), |line| {
        line["stethos.incident.state"] == "confirmed"
    });
    assert_eq!(unknown["error.type"], "unknown", "{unknown:#?}");
    let told = |key: &str| unknown[key].to_string();
    assert!(told("stethos.fault.evidence").contains("read EISDIR"));
    assert!(told("stethos.fault.actual").contains("read:EISDIR"));
    let expected = told("stethos.fault.expected");
    assert!(expected.contains("read:ok") && !expected.contains("EISDIR"));
    fs::remove_dir(&prices).unwrap();
    fs::rename(&kept, &prices).unwrap();
    again.resolved();
    again.end();
    collector.end();
}
