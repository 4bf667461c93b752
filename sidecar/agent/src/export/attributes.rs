//! The attributes that a diagnosis carries on its log record, its spans and its JSON line.

use opentelemetry::logs::AnyValue;
use opentelemetry::{Array, StringValue};

use crate::diagnosis::report::{Diagnosis, Hypothesis, name};
use crate::trace::{Context, ParentKind};

use super::Published;

/// No attribute is longer than this, whatever the limits of the environment: with
/// [`MAX_LINES`], a record stays under 64 KiB.
pub(super) const MAX_TEXT: usize = 1024;
const MAX_LINE: usize = 240;
const MAX_LINES: usize = 64;

/// Value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Bool(bool),
    Int(i64),
    Float(f64),
    Lines(Vec<String>),
}

/// `OTEL_ATTRIBUTE_*`, `OTEL_SPAN_ATTRIBUTE_*` or `OTEL_LOGRECORD_ATTRIBUTE_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttributeLimits {
    /// Attributes per record; the rest is dropped and counted on the record.
    pub count: usize,
    /// Characters per text or line.
    pub length: usize,
}

impl Default for AttributeLimits {
    fn default() -> Self {
        AttributeLimits {
            count: 128,
            length: usize::MAX,
        }
    }
}

/// Name and value of every attribute, in the order in which a person reads them.
pub(super) type Attributes = Vec<(&'static str, Value)>;

pub(super) fn of_diagnosis(
    published: &Published,
    diagnosis: &Diagnosis,
    context: &Context,
) -> Attributes {
    let d = diagnosis;
    let mut attributes = vec![
        ("error.type", Value::Text(name(d.class))),
        ("stethos.incident.id", text(&d.incident_id)),
        ("stethos.incident.state", Value::Text(name(d.state))),
        ("stethos.fault.confidence", Value::Float(d.confidence)),
        ("stethos.fault.hypotheses", Value::Lines(hypotheses(d))),
        ("stethos.fault.culprit", text(&d.culprit)),
        ("stethos.fault.evidence", lines(&d.evidence)),
        ("stethos.fault.local", Value::Bool(d.local)),
        ("stethos.fault.suggestion", text(&d.suggestion)),
    ];
    if !d.expected.is_empty() || !d.actual.is_empty() {
        attributes.push(("stethos.fault.expected", lines(&d.expected)));
        attributes.push(("stethos.fault.actual", lines(&d.actual)));
    }
    if let Some(id) = d.pattern_id {
        attributes.push(("stethos.pattern.id", Value::Int(i64::from(id))));
    }
    if let Some(stability) = d.stability {
        attributes.push(("stethos.stability", Value::Float(stability)));
    }
    if let Some(plugin) = &published.plugin {
        attributes.push(("stethos.plugin.name", text(&plugin.name)));
        attributes.push(("stethos.plugin.version", text(&plugin.version)));
    }
    if let Some(application_type) = &published.application_type {
        attributes.push(("stethos.application.type", text(application_type)));
    }
    if let Some(id) = &published.model_id {
        attributes.push(("stethos.model.id", text(id)));
    }
    attributes.extend([
        ("stethos.capture.mode", text(&published.capture_mode)),
        ("stethos.capture.loss_ratio", Value::Float(d.loss_ratio)),
        ("process.pid", Value::Int(i64::from(d.pid))),
        (
            "process.executable.name",
            text(d.executable.rsplit('/').next().unwrap_or_default()),
        ),
    ]);
    attributes.extend(of_context(context));
    attributes
}

/// Where the trace context comes from, how sure it is, and whose span the parent is.
pub(super) fn of_context(context: &Context) -> Attributes {
    let mut attributes = vec![
        ("stethos.trace.source", text(context.source.as_str())),
        ("stethos.trace.confidence", Value::Float(context.confidence)),
        ("stethos.trace.reason", text(context.reason)),
    ];
    if let Some(kind) = context.kind {
        let parent = match kind {
            ParentKind::Own => "own",
            ParentKind::Caller => "caller",
        };
        attributes.push(("stethos.trace.parent", text(parent)));
    }
    attributes
}

/// Replaces attributes of the same name and appends the others.
pub(super) fn overlay(attributes: &mut Attributes, over: Attributes) {
    for (key, value) in over {
        match attributes.iter_mut().find(|(other, _)| *other == key) {
            Some(slot) => slot.1 = value,
            None => attributes.push((key, value)),
        }
    }
}

/// What the limits leave, and how many were dropped.
pub(super) fn within(attributes: Attributes, limits: AttributeLimits) -> (Attributes, u32) {
    let dropped = attributes.len().saturating_sub(limits.count);
    let kept = attributes.into_iter().take(limits.count);
    (
        kept.map(|(key, value)| (key, value.within(limits)))
            .collect(),
        u32::try_from(dropped).unwrap_or(u32::MAX),
    )
}

pub(super) fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

fn lines(values: &[String]) -> Value {
    Value::Lines(values.to_vec())
}

fn hypotheses(diagnosis: &Diagnosis) -> Vec<String> {
    let line = |h: &Hypothesis| format!("{} {:.2}", name(h.class), h.confidence);
    diagnosis.hypotheses.iter().map(line).collect()
}

impl Value {
    fn within(self, limits: AttributeLimits) -> Self {
        match self {
            Value::Text(s) => Value::Text(cut(first(&s, limits.length), MAX_TEXT)),
            Value::Lines(lines) => {
                let within = |line: String| cut(first(&line, limits.length), MAX_LINE);
                Value::Lines(bounded(&lines).map(within).collect())
            }
            Value::Bool(_) | Value::Int(_) | Value::Float(_) => self,
        }
    }

    pub(super) fn to_json(&self) -> serde_json::Value {
        match self {
            Value::Text(s) => s.as_str().into(),
            Value::Bool(b) => (*b).into(),
            Value::Int(i) => (*i).into(),
            Value::Float(f) => (*f).into(),
            Value::Lines(lines) => lines.as_slice().into(),
        }
    }
}

/// On a span.
impl From<Value> for opentelemetry::Value {
    fn from(value: Value) -> Self {
        match value {
            Value::Text(s) => s.into(),
            Value::Bool(b) => b.into(),
            Value::Int(i) => i.into(),
            Value::Float(f) => f.into(),
            Value::Lines(lines) => {
                let lines = lines.into_iter().map(StringValue::from);
                opentelemetry::Value::Array(Array::String(lines.collect()))
            }
        }
    }
}

/// On a log record.
impl From<Value> for AnyValue {
    fn from(value: Value) -> Self {
        match value {
            Value::Text(s) => s.into(),
            Value::Bool(b) => b.into(),
            Value::Int(i) => i.into(),
            Value::Float(f) => f.into(),
            Value::Lines(lines) => lines.into_iter().collect(),
        }
    }
}

/// The first lines, and one that says how many were left out.
fn bounded(lines: &[String]) -> impl Iterator<Item = String> {
    let kept = if lines.len() > MAX_LINES {
        MAX_LINES - 1
    } else {
        lines.len()
    };
    let more = (kept < lines.len()).then(|| format!("… {} more lines", lines.len() - kept));
    lines[..kept].iter().cloned().chain(more)
}

/// The first characters.
fn first(text: &str, characters: usize) -> &str {
    let end = text.char_indices().nth(characters);
    end.map_or(text, |(end, _)| &text[..end])
}

/// At most `length` bytes, at a character's boundary.
pub(super) fn cut(text: &str, length: usize) -> String {
    text[..text.floor_char_boundary(length)].to_owned()
}
