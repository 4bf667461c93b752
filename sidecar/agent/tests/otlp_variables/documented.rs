//! The table of variables in `docs/telemetry.md`: all that are read and none else, each with tests
//! that are there, and a word on all others of the specification.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use stethos::export::{ExportConfig, TlsFiles};

/// Of the specification's environment variables and those of its OTLP exporters, as of version 1.60.
const SPECIFIED: [&str; 26] = [
    "OTEL_SDK_DISABLED",
    "OTEL_ENTITIES",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_SERVICE_NAME",
    "OTEL_LOG_LEVEL",
    "OTEL_PROPAGATORS",
    "OTEL_TRACES_SAMPLER{,_ARG}",
    "OTEL_{BSP,BLRP}_{SCHEDULE_DELAY,EXPORT_TIMEOUT,MAX_QUEUE_SIZE,MAX_EXPORT_BATCH_SIZE}",
    "OTEL_{,SPAN_,LOGRECORD_}ATTRIBUTE_{VALUE_LENGTH,COUNT}_LIMIT",
    "OTEL_SPAN_{EVENT,LINK}_COUNT_LIMIT",
    "OTEL_{EVENT,LINK}_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_EXPORTER_ZIPKIN_{ENDPOINT,TIMEOUT}",
    "OTEL_EXPORTER_PROMETHEUS_{HOST,PORT}",
    "OTEL_{TRACES,METRICS,LOGS}_EXPORTER",
    "OTEL_METRICS_EXEMPLAR_FILTER",
    "OTEL_METRIC_EXPORT_{INTERVAL,TIMEOUT}",
    "OTEL_{,EXPERIMENTAL_}CONFIG_FILE",
    "OTEL_EXPORTER_OTLP_{,TRACES_,METRICS_,LOGS_}ENDPOINT",
    "OTEL_EXPORTER_OTLP_{,TRACES_,METRICS_,LOGS_}INSECURE",
    "OTEL_EXPORTER_OTLP_{SPAN,METRIC}_INSECURE",
    "OTEL_EXPORTER_OTLP_{,TRACES_,METRICS_,LOGS_}{CERTIFICATE,CLIENT_KEY,CLIENT_CERTIFICATE}",
    "OTEL_EXPORTER_OTLP_{,TRACES_,METRICS_,LOGS_}HEADERS",
    "OTEL_EXPORTER_OTLP_{,TRACES_,METRICS_,LOGS_}COMPRESSION",
    "OTEL_EXPORTER_OTLP_{,TRACES_,METRICS_,LOGS_}TIMEOUT",
    "OTEL_EXPORTER_OTLP_{,TRACES_,METRICS_,LOGS_}PROTOCOL",
    "OTEL_EXPORTER_OTLP_METRICS_{TEMPORALITY_PREFERENCE,DEFAULT_HISTOGRAM_AGGREGATION}",
];

type Names = BTreeSet<String>;

fn agent() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `a{b,c}` is `ab` and `ac`.
fn expand(pattern: &str) -> Names {
    let Some((start, rest)) = pattern.split_once('{') else {
        return [pattern.to_owned()].into();
    };
    let (choices, rest) = rest.split_once('}').unwrap();
    let ends = expand(rest);
    let of = |choice: &str| {
        let ends = ends.iter();
        ends.map(|end| format!("{start}{choice}{end}"))
            .collect::<Names>()
    };
    choices.split(',').flat_map(of).collect()
}

/// The cells of the rows under a heading of `docs/telemetry.md`.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(agent().join("../../docs/telemetry.md")).unwrap();
    let (_, section) = text.split_once(&format!("\n{heading}\n")).unwrap();
    let end = section.find("\n#").unwrap_or(section.len());
    let lines = section[..end].lines().filter(|line| line.starts_with("| "));
    let cells = |line: &str| {
        let cells = line.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().to_owned()).collect()
    };
    // After the table's own heading and the line below it.
    lines.skip(2).map(cells).collect()
}

/// What stands between back quotes.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

fn variables(rows: &[Vec<String>]) -> Names {
    rows.iter()
        .flat_map(|row| quoted(&row[0]).flat_map(expand))
        .collect()
}

/// What the exporter and the pass-through ask the environment for.
fn asked() -> Names {
    let asked = RefCell::new(Names::new());
    for protocol in ["grpc", "http/protobuf"] {
        let lookup = |name: &str| {
            asked.borrow_mut().insert(name.to_owned());
            (name == "OTEL_EXPORTER_OTLP_PROTOCOL").then(|| protocol.to_owned())
        };
        ExportConfig::read(&lookup).unwrap();
        TlsFiles::general(&lookup).unwrap();
    }
    let mut asked = asked.into_inner();
    asked.retain(|name| name.starts_with("OTEL_"));
    asked
}

/// Whole names between quotes in the sources.
fn written(folder: PathBuf, names: &mut Names) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            written(path, names);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(path).unwrap();
            for (at, _) in text.match_indices("\"OTEL_") {
                let name = text[at + 1..].split('"').next().unwrap();
                let is_name = |c: char| c.is_ascii_uppercase() || c == '_';
                names.extend(name.chars().all(is_name).then(|| name.to_owned()));
            }
        }
    }
}

#[test]
fn every_variable_that_is_read_is_in_the_table_and_none_else() {
    let (followed, others) = (rows("## Variables"), rows("### Not followed"));
    let (followed, others) = (variables(&followed), variables(&others));
    let mut asked = asked();
    // It is asked for to say that it is not followed.
    assert!(asked.remove("OTEL_CONFIG_FILE"));
    assert_eq!(followed, asked);
    let mut written_names = Names::new();
    written(agent().join("src"), &mut written_names);
    assert!(written_names.contains("OTEL_METRIC_EXPORT_INTERVAL"));
    // What processes call the memory in which they publish their resource: no variable.
    assert!(written_names.remove("OTEL_CTX"));
    let told: Names = followed.union(&others).cloned().collect();
    let untold: Vec<_> = written_names.difference(&told).collect();
    assert!(untold.is_empty(), "{untold:?}");
    let specified: Names = SPECIFIED.into_iter().flat_map(expand).collect();
    assert_eq!(told, specified);
    assert!(followed.is_disjoint(&others));
}

#[test]
fn every_row_names_tests_that_exist() {
    for row in rows("## Variables") {
        let [variables, _, _, tests] = &row[..] else {
            panic!("{row:?}");
        };
        let tests: Vec<_> = quoted(tests).collect();
        assert!(!tests.is_empty(), "{variables}");
        for test in tests {
            let (file, function) = test.split_once("::").unwrap();
            let path = match file {
                "passthrough" => "tests/passthrough.rs".to_owned(),
                module => format!("tests/otlp_variables/{module}.rs"),
            };
            let text = std::fs::read_to_string(agent().join(path)).unwrap();
            let starts = ["#[test]\nfn ", "#[tokio::test]\nasync fn "];
            let stands = |start| text.contains(&format!("{start}{function}("));
            assert!(starts.iter().any(stands), "{variables}: no test {test}");
        }
    }
}
