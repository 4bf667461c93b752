//! What a real tracer publishes (ddtrace for Python): the span of each thread (OTEP 4947), and the resource of
//! the process (OTEP 4719).
#![cfg(target_arch = "x86_64")]
#![allow(clippy::unwrap_used, reason = "a step that fails ends the test")]

use std::time::Duration;

use stethos::{
    record::{Detail, Record, Subject},
    trace::{Context, Join, JoinConfig, Source},
};
use stethos_tests::{
    cgroup::{Cgroup, Stepped},
    join::affected,
    live::{settings, start, until_done},
    skip::{Need, kernel_or_skip, skip},
};

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/programs/traced.py");
const THREADS: usize = 4;
const STEPS: usize = 500;

/// Puts every call under its span once what belongs to it is there.
fn contexts(records: &[Record]) -> Vec<(&Detail, Context)> {
    let mut join = Join::new(JoinConfig::of_arch(std::env::consts::ARCH));
    let (mut waiting, mut found) = (Vec::new(), Vec::new());
    for record in records {
        join.on_record(record);
        match record {
            Record::Detail(detail) => waiting.push(detail),
            Record::Threads(_) => found.extend(waiting.drain(..).map(|d| (d, resolved(&join, d)))),
            _ => {}
        }
    }
    found.extend(waiting.drain(..).map(|d| (d, resolved(&join, d))));
    found
}

fn resolved(join: &Join, detail: &Detail) -> Context {
    join.resolve(&affected(detail))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn calls_are_put_under_the_spans_of_a_real_tracer() {
    const TEST: &str = "calls_are_put_under_the_spans_of_a_real_tracer";
    if !kernel_or_skip(TEST) {
        return;
    }
    let Ok(python) = std::env::var("STETHOS_TRACER") else {
        skip(Need::Tool, TEST, "no tracer: STETHOS_TRACER is not set");
        return;
    };
    let pod = Cgroup::new("tracer").unwrap();
    let settings_of_tracer = [
        "DD_SERVICE=traced-shop",
        "DD_VERSION=3.2.1",
        "DD_INSTRUMENTATION_TELEMETRY_ENABLED=false",
        "DD_REMOTE_CONFIGURATION_ENABLED=false",
        "DD_TRACE_STARTUP_LOGS=false",
    ];
    let (threads, steps) = (THREADS.to_string(), STEPS.to_string());
    let words = [python.as_str(), PROGRAM, &threads, &steps];
    let words = [&settings_of_tracer[..], &words].concat();
    let program = Stepped::start(&pod, "env", &words).unwrap();
    let live = start(&pod, settings(4 << 20, 512, 10));
    // It is looked for within the first second of what is seen of a process.
    std::thread::sleep(Duration::from_millis(1500));
    let running = program.begin().unwrap();
    let records = until_done(live, running);

    let (mut right, mut all) = (0, 0);
    for (detail, context) in contexts(&records) {
        let Subject::Path(path) = &detail.subject else {
            continue;
        };
        if path == "/nobody" {
            assert_eq!(context.parent, None, "{context:?}");
        }
        let Some(id) = path.strip_prefix("/span/") else {
            continue;
        };
        all += 1;
        if let Some(span) = context.parent {
            let found = format!("{}/{}", hex(&span.trace_id), hex(&span.span_id));
            assert_eq!(
                (found.as_str(), context.source),
                (id, Source::ThreadContext)
            );
            right += 1;
        }
    }
    assert_eq!(all, 3 * THREADS * STEPS);
    assert!(right * 100 >= all * 95, "{right} of {all}");

    let resource = records.iter().rev().find_map(|record| match record {
        Record::Resource(resource) => Some(&resource.attributes),
        _ => None,
    });
    let resource = resource.unwrap();
    for (key, value) in [
        ("service.name", "traced-shop"),
        ("service.version", "3.2.1"),
    ] {
        let attribute = (key.to_owned(), value.to_owned());
        assert!(resource.contains(&attribute), "{resource:?}");
    }
}
