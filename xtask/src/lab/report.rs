//! The lines that `stethos run --json` prints. Keys that are not named here are ignored.

use serde_json::Value;

#[derive(Debug, PartialEq)]
pub(crate) enum Line {
    Phase(Phase),
    Capturing(Capturing),
    Diagnosis(Box<Diagnosis>),
}

/// Where a container is in its life with Stethos.
#[derive(Debug, PartialEq)]
pub(crate) struct Phase {
    /// `learning`, `watching`.
    pub(crate) name: String,
    pub(crate) container: String,
    pub(crate) application_type: Option<String>,
    pub(crate) patterns: Option<u64>,
    pub(crate) tokens: Option<u64>,
    /// Share of calls never seen before, 0…1.
    pub(crate) unseen: Option<f64>,
}

/// What was captured of one container since the start.
#[derive(Debug, PartialEq)]
pub(crate) struct Capturing {
    pub(crate) container: String,
    /// Calls, and those of them that were shipped to the sidecar.
    pub(crate) seen: u64,
    pub(crate) delivered: u64,
    /// Familiar calls are only counted now.
    pub(crate) reduced: bool,
}

/// One change of state of one incident.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Diagnosis {
    pub(crate) incident: String,
    /// `suspected`, `confirmed`, `resolved`.
    pub(crate) state: String,
    pub(crate) class: String,
    pub(crate) confidence: Option<f64>,
    pub(crate) message: String,
    pub(crate) culprit: String,
    pub(crate) container: String,
    pub(crate) evidence: Vec<String>,
    pub(crate) expected: Vec<String>,
    pub(crate) actual: Vec<String>,
    pub(crate) suggestion: String,
    /// `<trace id>/<span id>`, when the diagnosis is on a trace.
    pub(crate) trace: Option<String>,
}

impl Phase {
    pub(crate) fn is_watching(&self) -> bool {
        self.name == "watching"
    }
}

impl Line {
    /// `None` for anything that is neither.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let object: Value = serde_json::from_str(text).ok()?;
        if let Some(name) = word(&object, "stethos.phase") {
            if name == "capturing" {
                return Some(Self::Capturing(Capturing {
                    container: word(&object, "container")?,
                    seen: object["seen"].as_u64()?,
                    delivered: object["delivered"].as_u64()?,
                    reduced: object["reduced"].as_bool()?,
                }));
            }
            return Some(Self::Phase(Phase {
                name,
                container: word(&object, "container")?,
                application_type: word(&object, "stethos.application.type"),
                patterns: object["patterns"].as_u64(),
                tokens: object["tokens"].as_u64(),
                unseen: object["unseen"].as_f64(),
            }));
        }
        let text = |key: &str| word(&object, key).unwrap_or_default();
        let trace = (word(&object, "trace_id"), word(&object, "span_id"));
        Some(Self::Diagnosis(Box::new(Diagnosis {
            incident: word(&object, "stethos.incident.id")?,
            state: word(&object, "stethos.incident.state")?,
            class: word(&object, "error.type")?,
            confidence: find(&object, "stethos.fault.confidence").and_then(Value::as_f64),
            message: text("body"),
            culprit: text("stethos.fault.culprit"),
            container: word(&object, "container.name").unwrap_or_else(|| text("container")),
            evidence: words(&object, "stethos.fault.evidence"),
            expected: words(&object, "stethos.fault.expected"),
            actual: words(&object, "stethos.fault.actual"),
            suggestion: text("stethos.fault.suggestion"),
            trace: trace
                .0
                .map(|id| format!("{id}/{}", trace.1.unwrap_or_default())),
        })))
    }
}

/// The value of `key`, in the object itself, in its attributes or in its resource.
fn find<'a>(object: &'a Value, key: &str) -> Option<&'a Value> {
    let places = [object, &object["attributes"], &object["resource"]];
    let found = places.into_iter().find_map(|place| place.get(key));
    found.filter(|value| !value.is_null())
}

fn word(object: &Value, key: &str) -> Option<String> {
    let text = plain(find(object, key)?);
    (!text.is_empty()).then_some(text)
}

fn words(object: &Value, key: &str) -> Vec<String> {
    match find(object, key) {
        None => Vec::new(),
        Some(Value::Array(items)) => items.iter().map(plain).collect(),
        Some(one) => vec![plain(one)],
    }
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_diagnosis_and_ignores_what_it_does_not_know() {
        let line = r#"{"timestamp":1000,"observed_timestamp":"1900","body":"api cannot reach redis",
            "trace_id":"4bf92f35","span_id":"00f067aa","error.type":"dependency.refused",
            "stethos.incident.id":"7f3a","stethos.incident.state":"confirmed",
            "stethos.fault.confidence":0.97,"stethos.fault.evidence":["a","b"],
            "attributes":{"stethos.fault.culprit":"api → 127.0.0.1:6379"},
            "resource":{"container.name":"api"},"something.new":{"x":1}}"#;
        let Some(Line::Diagnosis(diagnosis)) = Line::parse(line) else {
            panic!("not a diagnosis");
        };
        let expected = Diagnosis {
            incident: "7f3a".into(),
            state: "confirmed".into(),
            class: "dependency.refused".into(),
            confidence: Some(0.97),
            message: "api cannot reach redis".into(),
            culprit: "api → 127.0.0.1:6379".into(),
            container: "api".into(),
            evidence: vec!["a".into(), "b".into()],
            trace: Some("4bf92f35/00f067aa".into()),
            ..Diagnosis::default()
        };
        assert_eq!(*diagnosis, expected);
    }

    #[test]
    fn reads_a_phase() {
        let line = r#"{"stethos.phase":"learning","container":"api","patterns":14,"unseen":0.008}"#;
        let Some(Line::Phase(phase)) = Line::parse(line) else {
            panic!("not a phase");
        };
        assert!(!phase.is_watching());
        assert_eq!(
            (phase.patterns, phase.tokens, phase.unseen),
            (Some(14), None, Some(0.008))
        );
    }

    #[test]
    fn reads_what_was_captured() {
        let line = r#"{"stethos.phase":"capturing","container":"api","seen":100,"delivered":7,
            "counted":93,"held":0,"lost":0,"reduced":true}"#;
        let expected = Capturing {
            container: "api".into(),
            seen: 100,
            delivered: 7,
            reduced: true,
        };
        assert_eq!(Line::parse(line), Some(Line::Capturing(expected)));
    }

    #[test]
    fn anything_else_is_nothing() {
        assert_eq!(Line::parse("plain text"), None);
        assert_eq!(Line::parse(r#"{"error.type":"disk.full"}"#), None);
        assert_eq!(Line::parse(r#"{"stethos.phase":"learning"}"#), None);
    }
}
