//! Faults on the application's own traces, as somebody finds them who has a real Jaeger and nothing
//! else. The shop's spans are there, too: directly, or through the sidecar.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a step that fails ends the test"
)]

use std::{path::Path, process::Command, time::Duration};

use serde_json::Value;
use stethos_tests::{
    cgroup::Cgroup,
    collector::Collector,
    jaeger::{Jaeger, Span, Trace},
    shop::{collector_or_skip, free_port, redis, shop},
    sidecar::Sidecar,
    skip::{Need, skip},
};

const REFUSED: &str = "dependency.refused";
/// Whatever was sent is in Jaeger by then.
const SOON: Duration = Duration::from_secs(30);

/// A Jaeger for spans, and a collector for logs; otherwise says why `test` is skipped.
fn parts_or_skip(test: &str) -> Option<(Jaeger, Collector)> {
    let collector = collector_or_skip(test)?;
    let Some(jaeger) = Jaeger::start() else {
        skip(Need::Tool, test, "no Jaeger: STETHOS_JAEGER is not set");
        return None;
    };
    Some((jaeger.unwrap(), collector))
}

/// Stethos's logs go to the collector, its spans to Jaeger.
fn start(
    [outside, pod]: [&Cgroup; 2],
    folder: &Path,
    collector: &Collector,
    (traces, protocol): (&str, &str),
    set: impl FnOnce(&mut Command),
) -> Sidecar {
    let (state, log) = (folder.join("state"), folder.join("stethos.log"));
    Sidecar::start(outside, pod, &state, &log, |command| {
        command
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.http_endpoint())
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
            .env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", traces)
            .env("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", protocol);
        set(command);
    })
    .unwrap()
}

/// The application's span of a request that failed, with the call of redis that made it fail below it.
fn failed_request(trace: &Trace, is_it: impl Fn(&Span) -> bool) -> Option<&Span> {
    let of_api = |span: &&Span| trace.service(span) == Some("shop-api");
    let server = trace.spans.iter().filter(of_api).find(|span| {
        span.text("span.kind") == Some("server")
            && span.tag("http.response.status_code") == Some(&Value::from(502))
            && is_it(span)
    })?;
    let redis = trace.spans.iter().filter(of_api).find(|span| {
        span.text("db.system.name") == Some("redis")
            && span.tag("error") == Some(&Value::from(true))
            && span.parent() == Some(server.id.as_str())
    });
    redis.map(|_| server)
}

/// Spans that Jaeger's search finds by service, name and tags and that say whose span they are under,
/// each with its trace; at least `least`.
fn faults(jaeger: &Jaeger, class: &str, parent: &str, least: usize) -> Vec<(Trace, Span)> {
    let name = format!("stethos.fault {class}");
    let tags = [
        ("stethos.fault", "true"),
        ("error.type", class),
        ("stethos.trace.parent", parent),
    ];
    jaeger.wait("fault spans", SOON, |jaeger| {
        let mut found = Vec::new();
        for trace in jaeger.search("shop-api", &name, &tags)? {
            let spans = trace.spans.iter().filter(|span| {
                span.name == name && span.text("stethos.trace.parent") == Some(parent)
            });
            let spans: Vec<Span> = spans.cloned().collect();
            found.extend(spans.into_iter().map(|span| (trace.clone(), span)));
        }
        Ok((found.len() >= least).then_some(found))
    })
}

/// A fault span says what it is, to somebody who reads its tags, under the application's name.
fn assert_is_told(trace: &Trace, fault: &Span) {
    assert_eq!(trace.service(fault), Some("shop-api"), "{fault:#?}");
    assert_eq!(fault.tag("stethos.fault"), Some(&Value::from(true)));
    assert_eq!(fault.text("error.type"), Some(REFUSED));
    assert_eq!(fault.tag("error"), Some(&Value::from(true)));
    let evidence = fault.text("stethos.fault.evidence").unwrap_or_default();
    assert!(evidence.contains("ECONNREFUSED"), "{fault:#?}");
    // Of a parent that Jaeger does not have it warns rightly.
    let mut warnings = fault.warnings.iter().flatten();
    assert!(
        warnings.all(|warning| warning.starts_with("invalid parent span IDs")),
        "{fault:#?}"
    );
}

/// The trace that the log record and the JSON line name is one of a failed request, with its fault.
fn assert_logs_name_the_trace(jaeger: &Jaeger, collector: &Collector, line: &Value) {
    let id = line["trace_id"].as_str().unwrap().to_owned();
    let record = collector.wait("log record", SOON, |received| {
        let mut logs = received.logs.iter();
        let found = logs.find(|log| {
            log.attribute("error.type") == Some(REFUSED)
                && log.attribute("stethos.incident.state") == Some("confirmed")
        });
        found.cloned()
    });
    assert_eq!(record.trace.as_ref(), Some(&id), "{line:#}");
    let name = format!("stethos.fault {REFUSED}");
    jaeger.wait("trace of the log record", SOON, |jaeger| {
        let trace = jaeger.trace(&id)?;
        Ok(trace.filter(|trace| {
            let is_fault = trace.spans.iter().any(|span| span.name == name);
            is_fault && failed_request(trace, |_| true).is_some()
        }))
    });
}

/// An open incident is one span of its own, which links to affected requests.
fn assert_confirmed_links_to_requests(jaeger: &Jaeger) {
    let name = format!("stethos.fault.confirmed {REFUSED}");
    let (trace, confirmed) = jaeger.wait("confirmed span", SOON, |jaeger| {
        let traces = jaeger.search("shop-api", &name, &[("stethos.fault", "true")])?;
        Ok(traces.into_iter().find_map(|trace| {
            let span = trace.spans.iter().find(|span| span.name == name)?.clone();
            Some((trace, span))
        }))
    });
    assert_is_told(&trace, &confirmed);
    assert_eq!(confirmed.parent(), None);
    assert!(!confirmed.links().is_empty(), "{confirmed:#?}");
    // To the span that its request ran under: the request's own, or the caller's.
    for (id, span) in confirmed.links() {
        jaeger.wait("failed request that is linked to", SOON, |jaeger| {
            let is_it = |request: &Span| request.id == span || request.parent() == Some(span);
            let trace = jaeger.trace(id)?;
            Ok(trace.filter(|trace| failed_request(trace, is_it).is_some()))
        });
    }
}

/// A refused connection happens before the api writes anything, and redis's protocol has no place for a
/// `traceparent`: what the kernel sees is the context that the api was given by its caller. The fault stands
/// beside the api's span of the request. A call of the catalog carries the api's own span: a fault of
/// that call stands under it.
#[test]
fn jaeger_shows_faults_beside_and_under_the_applications_spans() {
    let test = "jaeger_shows_faults_beside_and_under_the_applications_spans";
    let Some((jaeger, mut collector)) = parts_or_skip(test) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let outside = Cgroup::new("outside-beside").unwrap();
    let pod = Cgroup::new("jaeger-beside").unwrap();
    let mut shop = shop(&pod, &outside, folder.path(), &jaeger.otlp_http()).unwrap();
    let traces = format!("{}/v1/traces", jaeger.otlp_http());
    let to_jaeger = (traces.as_str(), "http/protobuf");
    let pods = [&outside, &pod];
    let mut sidecar = start(pods, folder.path(), &collector, to_jaeger, |_| {});
    sidecar.watching(3, Duration::from_secs(240));
    std::thread::sleep(Duration::from_secs(5));

    shop.redis.signal(libc::SIGKILL);
    shop.redis.0.wait().unwrap();
    let line = sidecar.confirmed(&[REFUSED]);
    for (trace, fault) in faults(&jaeger, REFUSED, "caller", 5) {
        assert_is_told(&trace, &fault);
        let caller = fault.parent();
        // The customers send no spans: their span is known by its id alone, and it is the parent of the
        // api's span, too.
        assert!(caller.is_some_and(|caller| trace.span(caller).is_none()));
        jaeger.wait("failed request beside the fault", SOON, |jaeger| {
            let trace = jaeger.trace(&trace.id)?;
            let request = trace
                .as_ref()
                .and_then(|trace| failed_request(trace, |request| request.parent() == caller));
            Ok(request.cloned())
        });
    }
    assert_logs_name_the_trace(&jaeger, &collector, &line);
    assert_confirmed_links_to_requests(&jaeger);

    let port = shop.redis_port;
    shop.redis = redis(&pod, folder.path(), port).unwrap();
    sidecar.resolved();
    std::thread::sleep(Duration::from_secs(5));
    shop.catalog.signal(libc::SIGSTOP);
    let hung = sidecar.confirmed(&["process.frozen", "dependency.hung"]);
    std::thread::sleep(Duration::from_secs(7));
    shop.catalog.signal(libc::SIGCONT);
    let class = hung["error.type"].as_str().unwrap();
    for (trace, fault) in faults(&jaeger, class, "own", 1) {
        assert_eq!(trace.service(&fault), Some("shop-api"));
        let source = fault.text("stethos.trace.source");
        assert_eq!(source, Some("outgoing_traceparent"));
        // The very span of the call that hung.
        jaeger.wait("call of the catalog above the fault", SOON, |jaeger| {
            let trace = jaeger.trace(&trace.id)?;
            let call = trace.as_ref().and_then(|trace| {
                let call = trace.span(fault.parent()?)?;
                let is_call = trace.service(call) == Some("shop-api")
                    && call.text("span.kind") == Some("client")
                    && call.text("peer.service") == Some("shop-catalog");
                is_call.then_some(call)
            });
            Ok(call.cloned())
        });
    }
    // Nobody who looks for the sidecar finds anything: what it says is said of the application.
    let services = jaeger.services().unwrap();
    assert!(
        !services.iter().any(|name| name == "stethos"),
        "{services:?}"
    );
    sidecar.end();
    collector.end();
}

/// With the api's spans passing through, the sidecar knows which one answered the caller: the fault stands
/// under it, although redis was told nothing. Its spans go over gRPC here.
#[test]
fn jaeger_shows_faults_under_the_span_that_passed_through_the_sidecar() {
    let test = "jaeger_shows_faults_under_the_span_that_passed_through_the_sidecar";
    let Some((jaeger, mut collector)) = parts_or_skip(test) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let outside = Cgroup::new("outside-through").unwrap();
    let pod = Cgroup::new("jaeger-through").unwrap();
    let through = format!("127.0.0.1:{}", free_port().unwrap());
    let endpoint = format!("http://{through}");
    let mut shop = shop(&pod, &outside, folder.path(), &endpoint).unwrap();
    let traces = jaeger.otlp_grpc();
    let to_jaeger = (traces.as_str(), "grpc");
    let pods = [&outside, &pod];
    let mut sidecar = start(pods, folder.path(), &collector, to_jaeger, |command| {
        command
            .env("STETHOS_TRACE_PASSTHROUGH_LISTEN", &through)
            .env("STETHOS_TRACE_PASSTHROUGH_HTTP", jaeger.otlp_http());
    });
    sidecar.watching(3, Duration::from_secs(240));
    std::thread::sleep(Duration::from_secs(5));

    shop.redis.signal(libc::SIGKILL);
    shop.redis.0.wait().unwrap();
    let line = sidecar.confirmed(&[REFUSED]);
    for (trace, fault) in faults(&jaeger, REFUSED, "own", 5) {
        assert_is_told(&trace, &fault);
        let source = fault.text("stethos.trace.source");
        assert_eq!(source, Some("otlp_passthrough"));
        jaeger.wait("failed request above the fault", SOON, |jaeger| {
            let trace = jaeger.trace(&trace.id)?;
            let request = trace.as_ref().and_then(|trace| {
                failed_request(trace, |request| Some(request.id.as_str()) == fault.parent())
            });
            Ok(request.cloned())
        });
    }
    assert_logs_name_the_trace(&jaeger, &collector, &line);
    assert_confirmed_links_to_requests(&jaeger);
    let services = jaeger.services().unwrap();
    assert!(
        !services.iter().any(|name| name == "stethos"),
        "{services:?}"
    );
    sidecar.end();
    collector.end();
}
