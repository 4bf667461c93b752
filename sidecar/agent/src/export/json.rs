//! The lines that `run --json` and `replay --json` print.

use serde_json::{Map, Value};

use crate::diagnosis::report::Report;
use crate::record::TraceParent;

use super::{Published, attributes, log};

/// A diagnosis as one flat object: the log record's fields (`event_name`, `timestamp` and
/// `observed_timestamp` in Unix ns, `severity_text`, `severity_number`, `body`; `trace_id`,
/// `span_id` and `trace_flags` when known), `service.name`, and the attributes by their names.
/// `None` for an affected call.
pub fn to_json(published: &Published) -> Option<Value> {
    let Report::Diagnosis(diagnosis) = &published.report else {
        return None;
    };
    let (severity, severity_text) = log::severity(diagnosis);
    let mut line = Map::new();
    let mut put = |key: &str, value: Value| line.insert(key.to_owned(), value);
    put("event_name", log::EVENT_NAME.into());
    put("timestamp", published.unix(diagnosis.onset_ns).into());
    put(
        "observed_timestamp",
        published.unix(diagnosis.observed_ns).into(),
    );
    if let Some(ended) = diagnosis.ended_ns {
        put("end_timestamp", published.unix(ended).into());
    }
    put("severity_text", severity_text.into());
    put("severity_number", (severity as i32).into());
    put("body", diagnosis.message.as_str().into());
    if let Some(TraceParent {
        trace_id,
        span_id,
        flags,
    }) = published.context.parent
    {
        put("trace_id", hex(&trace_id).into());
        put("span_id", hex(&span_id).into());
        put("trace_flags", flags.into());
    }
    for key in ["service.name", "container.name"] {
        if let Some(value) = published.resource.get(key) {
            put(key, value.into());
        }
    }
    put(
        "stethos.incident.affected_calls",
        diagnosis.affected_calls.into(),
    );
    for (key, value) in attributes::of_diagnosis(published, diagnosis, &published.context) {
        put(key, value.to_json());
    }
    Some(Value::Object(line))
}

/// An affected call as one flat object: `stethos.incident.id`, `stethos.fault.call`, `timestamp` and
/// `end_timestamp` in Unix ns, `process.pid`, `thread.id`; `trace_id`, `span_id` and `trace_flags` of the one
/// span that it happened under, or `links` (trace and span id of each) of those that it may belong to; where
/// that is known from. `None` for a diagnosis.
pub fn call_to_json(published: &Published) -> Option<Value> {
    let Report::Affected(call) = &published.report else {
        return None;
    };
    let mut line = Map::new();
    let mut put = |key: &str, value: Value| line.insert(key.to_owned(), value);
    put("stethos.incident.id", call.incident_id.as_str().into());
    put("stethos.fault.call", call.token.as_str().into());
    put("timestamp", published.unix(call.start_ns).into());
    put("end_timestamp", published.unix(call.end_ns).into());
    put("process.pid", call.pid.into());
    put("thread.id", call.tid.into());
    let context = &published.context;
    if let Some(parent) = context.parent {
        put("trace_id", hex(&parent.trace_id).into());
        put("span_id", hex(&parent.span_id).into());
        put("trace_flags", parent.flags.into());
    }
    let links = context.links.iter();
    let links: Vec<Value> = links
        .map(|link| [hex(&link.trace_id), hex(&link.span_id)].to_vec().into())
        .collect();
    put("links", links.into());
    for (key, value) in attributes::of_context(context) {
        put(key, value.to_json());
    }
    Some(Value::Object(line))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
