//! The log record, its JSON line, and the context that they share.

use opentelemetry_proto::tonic::common::v1::any_value::Value as Otlp;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use prost::Message;

use super::samples::{
    MS, UNIX_OFFSET, affected, diagnosis, of_state, published, span_context, under,
};
use super::*;
use crate::diagnosis::report::{Diagnosis, IncidentState};

fn record(published: &Published) -> LogRecord {
    limited_record(published, AttributeLimits::default())
}

/// As it goes on the wire.
fn limited_record(published: &Published, limits: AttributeLimits) -> LogRecord {
    let Report::Diagnosis(diagnosis) = &published.report else {
        panic!("no diagnosis")
    };
    let item = log::Records::new(limits).item(published, diagnosis);
    LogRecord::from(&item.record)
}

/// Every attribute that a diagnosis carries when all is known.
const ATTRIBUTES: [&str; 20] = [
    "error.type",
    "stethos.incident.id",
    "stethos.incident.state",
    "stethos.fault.confidence",
    "stethos.fault.hypotheses",
    "stethos.fault.culprit",
    "stethos.fault.evidence",
    "stethos.fault.local",
    "stethos.fault.suggestion",
    "stethos.pattern.id",
    "stethos.stability",
    "stethos.plugin.name",
    "stethos.plugin.version",
    "stethos.model.id",
    "stethos.capture.mode",
    "stethos.capture.loss_ratio",
    "stethos.trace.source",
    "stethos.trace.confidence",
    "process.pid",
    "process.executable.name",
];

#[test]
fn a_log_record_is_what_the_design_says() {
    let mut confirmed = of_state(IncidentState::Confirmed, 1_500);
    confirmed.context = under(span_context(7, 1));
    let record = record(&confirmed);
    assert_eq!(record.event_name, "stethos.fault.diagnosis");
    assert_eq!(record.time_unix_nano, UNIX_OFFSET as u64 + 1_000 * MS);
    assert_eq!(
        record.observed_time_unix_nano,
        UNIX_OFFSET as u64 + 1_500 * MS
    );
    assert_eq!(
        (record.severity_number, record.severity_text.as_str()),
        (17, "ERROR")
    );
    assert_eq!(
        (record.trace_id, record.span_id, record.flags),
        (vec![7; 16], vec![7; 8], 1)
    );
    let Some(Otlp::StringValue(body)) = record.body.and_then(|b| b.value) else {
        panic!("no body")
    };
    assert_eq!(body, "api cannot connect to 127.0.0.1:6379");
    let keys: Vec<_> = record.attributes.iter().map(|kv| kv.key.as_str()).collect();
    for key in ATTRIBUTES {
        assert_eq!(
            keys.iter().filter(|k| **k == key).count(),
            1,
            "{key} in {keys:?}"
        );
    }
    let evidence = record
        .attributes
        .iter()
        .find(|kv| kv.key == "stethos.fault.evidence")
        .unwrap();
    let Some(Otlp::ArrayValue(lines)) = evidence.value.clone().and_then(|v| v.value) else {
        panic!("evidence is no array")
    };
    assert!(matches!(&lines.values[0].value, Some(Otlp::StringValue(s)) if s.contains("38/s")));
}

#[test]
fn severities_follow_the_state() {
    let severity = |state, dying| {
        let diagnosis = Diagnosis {
            dying,
            ..diagnosis(state, 2_000)
        };
        record(&published(Report::Diagnosis(diagnosis), Context::default())).severity_number
    };
    assert_eq!(severity(IncidentState::Suspected, false), 13);
    assert_eq!(severity(IncidentState::Confirmed, false), 17);
    assert_eq!(severity(IncidentState::Confirmed, true), 21);
    assert_eq!(severity(IncidentState::Resolved, true), 9);
}

#[test]
fn without_context_there_are_no_ids() {
    let suspected = of_state(IncidentState::Suspected, 1_050);
    let record = record(&suspected);
    assert!(record.trace_id.is_empty() && record.span_id.is_empty() && record.flags == 0);
    let line = to_json(&suspected).unwrap();
    assert!(line.get("trace_id").is_none());
    assert_eq!(line["stethos.trace.source"], "none");
}

#[test]
fn the_largest_record_stays_under_64_kib() {
    let long = "ü".repeat(10_000);
    let lines = vec![long.clone(); 1_000];
    let huge = Diagnosis {
        culprit: long.clone(),
        message: long.clone(),
        suggestion: long.clone(),
        executable: long.clone(),
        evidence: lines.clone(),
        expected: lines.clone(),
        actual: lines,
        ..diagnosis(IncidentState::Confirmed, 2_000)
    };
    let mut published = published(Report::Diagnosis(huge), under(span_context(1, 1)));
    published.plugin = Some(PluginIdentity {
        name: long.clone(),
        version: long.clone(),
    });
    published.model_id = Some(long.clone());
    published.capture_mode = long;
    let record = record(&published);
    assert!(
        record.encoded_len() < 64 * 1024,
        "{} bytes",
        record.encoded_len()
    );
    assert!(record.attributes.len() <= 128);
    let evidence = format!("{:?}", record.attributes);
    assert!(evidence.contains("… 937 more lines"));
}

#[test]
fn limits_of_the_environment_hold() {
    let confirmed = of_state(IncidentState::Confirmed, 1_500);
    let limits = AttributeLimits {
        count: 3,
        length: 5,
    };
    let all = record(&confirmed).attributes.len() as i64;
    let record = limited_record(&confirmed, limits);
    assert_eq!(record.attributes.len(), 3);
    let last = &record.attributes[2];
    assert_eq!(last.key, "otel.dropped_attributes_count");
    let dropped = last.value.clone().and_then(|v| v.value);
    assert_eq!(dropped, Some(Otlp::IntValue(all - 2)));
    let value = record.attributes[0].value.clone().and_then(|v| v.value);
    assert_eq!(value, Some(Otlp::StringValue("depen".into())));
}

#[test]
fn the_json_line_has_the_same_names() {
    let mut resolved = of_state(IncidentState::Resolved, 9_000);
    resolved.context = under(span_context(7, 1));
    let line = to_json(&resolved).unwrap();
    for key in ATTRIBUTES {
        assert!(line.get(key).is_some(), "{key}");
    }
    assert_eq!(line["error.type"], "dependency.refused");
    assert_eq!(line["stethos.incident.state"], "resolved");
    assert_eq!(line["timestamp"], UNIX_OFFSET as u64 + 1_000 * MS);
    assert_eq!(line["trace_id"], "07".repeat(16));
    assert_eq!(line["service.name"], "api");
    assert_eq!(line["stethos.fault.evidence"].as_array().unwrap().len(), 1);
    assert_eq!(to_json(&affected(1, 2, Context::default())), None);
}

#[test]
fn an_affected_call_says_what_is_known_of_its_trace() {
    let line = call_to_json(&affected(1_000, 1_001, under(span_context(7, 1)))).unwrap();
    assert_eq!(line["stethos.fault.call"], "connect:ECONNREFUSED");
    assert_eq!(line["end_timestamp"], UNIX_OFFSET as u64 + 1_001 * MS);
    assert_eq!(line["trace_id"], "07".repeat(16));
    assert_eq!(line["links"].as_array().map(Vec::len), Some(0));
    let linked = Context {
        links: vec![span_context(8, 1)],
        ..Context::default()
    };
    let line = call_to_json(&affected(1_000, 1_001, linked)).unwrap();
    assert!(line.get("trace_id").is_none());
    assert_eq!(line["links"][0][0], "08".repeat(16));
    assert_eq!(
        call_to_json(&of_state(IncidentState::Confirmed, 2_000)),
        None
    );
}

#[test]
fn a_diagnosis_takes_the_context_of_its_first_affected_call() {
    let mut contexts = Contexts::default();
    let first = under(span_context(1, 1));
    let mut batch = [
        of_state(IncidentState::Suspected, 1_050),
        affected(1_000, 1_001, Context::none("outside any request")),
        affected(1_002, 1_003, first.clone()),
        affected(1_004, 1_005, under(span_context(2, 1))),
    ];
    contexts.complete(&mut batch);
    assert_eq!(batch[0].context, first);
    let mut later = [of_state(IncidentState::Confirmed, 1_500)];
    contexts.complete(&mut later);
    assert_eq!(later[0].context, first);
    let mut resolved = [of_state(IncidentState::Resolved, 9_000)];
    contexts.complete(&mut resolved);
    assert_eq!(resolved[0].context, first);
    let mut again = [of_state(IncidentState::Suspected, 9_500)];
    contexts.complete(&mut again);
    assert_eq!(again[0].context.parent, None);
}
