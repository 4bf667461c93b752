//! What is sent, by the names that Prometheus and Loki give it.

use std::collections::{BTreeMap, BTreeSet};

use stethos::export::instruments::{self, Instrument, Kind};
use yaml_rust2::Yaml;

/// Dimensions of the collector's span metrics.
const OF_SPANS: [&str; 5] = [
    "service.name",
    "span.name",
    "span.kind",
    "status.code",
    "le",
];
/// What the collector makes of spans: `traces.span.metrics.calls` and `.duration`, in seconds.
const FROM_SPANS: [&str; 4] = [
    "traces_span_metrics_calls_total",
    "traces_span_metrics_duration_seconds_bucket",
    "traces_span_metrics_duration_seconds_count",
    "traces_span_metrics_duration_seconds_sum",
];

/// The name after Prometheus's strategy `UnderscoreEscapingWithSuffixes`: the unit as a word where it
/// is one, `ratio` for a gauge of unit 1, `total` for a counter.
fn prometheus_name(instrument: &Instrument) -> String {
    let mut name = instrument.name.replace('.', "_");
    match (instrument.unit, instrument.kind) {
        ("s", _) => name += "_seconds",
        ("By", _) => name += "_bytes",
        ("1", Kind::Gauge) => name += "_ratio",
        (unit, _) => assert!(unit.starts_with('{'), "{instrument:?}"),
    }
    if instrument.kind == Kind::Counter {
        name += "_total";
    }
    name
}

fn labels(attributes: &[&str]) -> BTreeSet<String> {
    let label = |attribute: &&str| attribute.replace('.', "_");
    attributes.iter().map(label).collect()
}

/// Metrics of Stethos, with their own labels.
pub(crate) fn of_stethos() -> BTreeMap<String, BTreeSet<String>> {
    let named = instruments::ALL.iter();
    named
        .map(|one| (prometheus_name(one), labels(one.attributes)))
        .collect()
}

/// All metrics that come to be, with their own labels.
pub(crate) fn metrics() -> BTreeMap<String, BTreeSet<String>> {
    let mut metrics = of_stethos();
    metrics.extend(FROM_SPANS.map(|name| (name.to_owned(), labels(&OF_SPANS))));
    metrics
}

/// Resource attributes that every metric has as labels.
pub(crate) fn promoted_labels(prometheus: &Yaml) -> BTreeSet<String> {
    let otlp = &prometheus["otlp"];
    let strategy = otlp["translation_strategy"].as_str();
    assert_eq!(strategy, Some("UnderscoreEscapingWithSuffixes"));
    let promoted = otlp["promote_resource_attributes"].as_vec().unwrap();
    let promoted: Vec<&str> = promoted.iter().filter_map(Yaml::as_str).collect();
    labels(&promoted)
}

/// Names that Loki gives to fields of a log record, and that the collector gives to the event.
pub(crate) fn of_lokis_own() -> BTreeSet<String> {
    let own = [
        "trace_id",
        "span_id",
        "observed_timestamp",
        "severity_text",
        "event_name",
    ];
    own.map(str::to_owned).into()
}

/// Attributes that a text names in backticks; `.rest` goes on from the one before it.
pub(crate) fn documented(markdown: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut last = "";
    for quoted in markdown.split('`').skip(1).step_by(2) {
        let of_words = quoted
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte == b'.');
        if !of_words || !quoted.contains('.') {
            continue;
        }
        match quoted.strip_prefix('.') {
            Some(rest) => {
                let parent = last.rsplit_once('.').map_or("", |(parent, _)| parent);
                found.insert(format!("{parent}.{rest}"));
            }
            None => {
                found.insert(quoted.to_owned());
                last = quoted;
            }
        }
    }
    found
}
