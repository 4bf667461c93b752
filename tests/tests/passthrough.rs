//! An application whose spans pass through the sidecar: its faults stand under its own spans.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a step that fails ends the test"
)]

use std::time::Duration;

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value},
    resource::v1::Resource,
};
use prost::Message;
use stethos_tests::{
    cgroup::Cgroup,
    collector::Span,
    programs::compile_or_skip,
    shop::{collector_or_skip, free_port, shop_with},
    sidecar::Sidecar,
};

const TEST: &str = "faults_stand_under_the_span_that_the_application_sent";

/// A resource with this name, as a process publishes it (OTEP 4719), in hexadecimal.
fn published(name: &str) -> String {
    let attribute = KeyValue {
        key: "service.name".to_owned(),
        value: Some(AnyValue {
            value: Some(Value::StringValue(name.to_owned())),
        }),
        ..KeyValue::default()
    };
    let resource = Resource {
        attributes: vec![attribute],
        ..Resource::default()
    };
    let bytes = ProcessContext {
        resource: Some(resource),
    }
    .encode_to_vec();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `opentelemetry.proto.processcontext.v1development.ProcessContext`, without what stands beside the resource.
#[derive(Clone, PartialEq, Message)]
struct ProcessContext {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
}

/// A refused connection happens before the api writes anything: without the pass-through there is only
/// the caller's span (`end_to_end`).
#[test]
fn faults_stand_under_the_span_that_the_application_sent() {
    let Some(mut collector) = collector_or_skip(TEST) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let upstream = collector.http_endpoint();
    let through = format!("127.0.0.1:{}", free_port().unwrap());
    let outside = Cgroup::new("outside").unwrap();
    let pod = Cgroup::new("through").unwrap();
    let endpoint = format!("http://{through}");
    let library = folder.path().join("libprocess_context.so");
    let made = ["-shared", "-fPIC", "-o", library.to_str().unwrap()];
    if !compile_or_skip(TEST, "process_context.c", &made) {
        return;
    }
    let mut shop = shop_with(&pod, &outside, folder.path(), &endpoint, |api| {
        api.env("LD_PRELOAD", &library)
            .env("PROCESS_CONTEXT", published("shop-api-itself"));
    })
    .unwrap();
    let (state, log) = (
        folder.path().join("state"),
        folder.path().join("stethos.log"),
    );
    let mut sidecar = Sidecar::start(&outside, &pod, &state, &log, |command| {
        command
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &upstream)
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
            .env("STETHOS_TRACE_PASSTHROUGH_LISTEN", &through)
            .env("STETHOS_TRACE_PASSTHROUGH_HTTP", &upstream);
    })
    .unwrap();
    sidecar.watching(3, Duration::from_secs(240));
    std::thread::sleep(Duration::from_secs(5));

    shop.redis.signal(libc::SIGKILL);
    shop.redis.0.wait().unwrap();
    sidecar.confirmed(&["dependency.refused"]);
    let own = |span: &&Span| span.attribute("stethos.trace.source") == Some("otlp_passthrough");
    let faults = collector.wait("fault spans", Duration::from_secs(30), |received| {
        let faults = received.spans.iter();
        let faults = faults.filter(|span| span.name == "stethos.fault dependency.refused");
        let faults: Vec<Span> = faults.cloned().collect();
        (faults.iter().filter(own).count() >= 20).then_some(faults)
    });
    let (right, all) = (faults.iter().filter(own).count(), faults.len());
    assert!(right * 100 >= all * 95, "{right} of {all}");
    for fault in faults.iter().filter(own) {
        assert_eq!(fault.attribute("stethos.trace.parent"), Some("own"));
        // What the process publishes goes before its variables.
        assert_eq!(fault.service, "shop-api-itself");
        // The application's span came through, and is the one.
        let parent = collector.wait("the api's span", Duration::from_secs(20), |received| {
            let mut spans = received.spans.iter();
            spans
                .find(|span| Some(&span.id) == fault.parent.as_ref())
                .cloned()
        });
        assert_eq!(
            (parent.service.as_str(), &parent.trace),
            ("shop-api", &fault.trace)
        );
    }
    sidecar.end();
    collector.end();
}
