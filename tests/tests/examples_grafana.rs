//! The example with Grafana: its files parse, its dashboards stand on its own data sources and within
//! Grafana's types, and they ask for nothing that is not sent.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a step that fails ends the test"
)]

#[path = "examples_grafana/names.rs"]
mod names;
#[path = "examples_grafana/queries.rs"]
mod queries;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use stethos::{config::Config, export::ExportConfig};
use stethos_tests::skip::{Need, skip};
use yaml_rust2::{Yaml, YamlLoader};

use queries::{Query, identifiers};

/// Columns of a dashboard's grid.
const COLUMNS: u64 = 24;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn example() -> PathBuf {
    repository().join("examples/grafana")
}

fn text(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A YAML file of the example: one document.
fn yaml(file: &str) -> Yaml {
    let documents = YamlLoader::load_from_str(&text(example().join(file)))
        .unwrap_or_else(|error| panic!("{file}: {error}"));
    assert_eq!(documents.len(), 1, "{file}");
    documents.into_iter().next().unwrap()
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, found),
            false => found.push(path),
        }
    }
}

/// Name and content.
fn dashboards() -> BTreeMap<String, Value> {
    let mut found = Vec::new();
    files(&example().join("dashboards"), &mut found);
    let dashboards: BTreeMap<String, Value> = found
        .iter()
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let value = serde_json::from_str(&text(path));
            (
                name.clone(),
                value.unwrap_or_else(|e| panic!("{name}: {e}")),
            )
        })
        .collect();
    assert!(dashboards.len() >= 3, "{:?}", dashboards.keys());
    dashboards
}

/// Kind by uid.
fn data_sources() -> BTreeMap<String, String> {
    let provisioned = yaml("provisioning/datasources.yaml");
    let list = provisioned["datasources"].as_vec().unwrap();
    let word = |one: &Yaml, key: &str| one[key].as_str().unwrap().to_owned();
    list.iter()
        .map(|one| (word(one, "uid"), word(one, "type")))
        .collect()
}

/// Every value below `value`, itself included.
fn all(value: &Value) -> Vec<&Value> {
    let mut found = vec![value];
    match value {
        Value::Array(list) => list.iter().for_each(|one| found.extend(all(one))),
        Value::Object(map) => map.values().for_each(|one| found.extend(all(one))),
        _ => {}
    }
    found
}

#[test]
fn every_file_parses() {
    let mut found = Vec::new();
    files(&example(), &mut found);
    let of = |kind: &str| -> Vec<&PathBuf> {
        let is = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == kind);
        found.iter().filter(is).collect()
    };
    let (json, yaml) = (of("json"), of("yaml"));
    assert!(json.len() >= 5 && yaml.len() >= 8, "{found:?}");
    for path in json {
        let value: Result<Value, _> = serde_json::from_str(&text(path));
        assert!(value.is_ok(), "{}: {value:?}", path.display());
    }
    for path in yaml {
        let documents = YamlLoader::load_from_str(&text(path));
        let one = documents
            .as_ref()
            .is_ok_and(|documents| documents.len() == 1);
        assert!(one, "{}: {documents:?}", path.display());
    }
}

#[test]
fn dashboards_are_told_apart_and_lead_to_each_other() {
    let dashboards = dashboards();
    let mut told = BTreeSet::new();
    for (file, dashboard) in &dashboards {
        for key in ["uid", "title"] {
            let word = dashboard[key]
                .as_str()
                .unwrap_or_else(|| panic!("{file}: no {key}"));
            assert!(told.insert(word.to_owned()), "{file}: {key} {word} twice");
        }
        let version = dashboard["schemaVersion"].as_u64();
        assert!(version >= Some(40), "{file}: schemaVersion {version:?}");
    }
    let links = dashboards.values().flat_map(all).filter_map(Value::as_str);
    let links: Vec<&str> = links.filter_map(|link| link.strip_prefix("/d/")).collect();
    assert!(!links.is_empty(), "no dashboard leads to another one");
    for link in links {
        let uid = link.split('?').next().unwrap();
        assert!(told.contains(uid), "/d/{link}");
    }
}

#[test]
fn panels_have_a_place_and_a_name_of_their_own() {
    for (file, dashboard) in dashboards() {
        let mut taken = BTreeMap::new();
        let mut ids = BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            let title = panel["title"].as_str().unwrap_or_default();
            assert!(!title.is_empty(), "{file}: a panel without a title");
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{file}: {title}");
            let [x, y, w, h] =
                ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
            assert!(w > 0 && h > 0 && x + w <= COLUMNS, "{file}: {title}");
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                let other = taken.insert(cell, title);
                assert_eq!(other, None, "{file}: {title} lies on another panel");
            }
        }
    }
}

#[test]
fn only_provisioned_data_sources_are_asked() {
    let provisioned = data_sources();
    assert_eq!(provisioned.len(), 3);
    for (file, dashboard) in dashboards() {
        let mut asked = 0;
        for one in all(&dashboard) {
            let source = &one["datasource"];
            if let Some(uid) = source["uid"].as_str() {
                let kind = source["type"].as_str();
                assert_eq!(
                    provisioned.get(uid).map(String::as_str),
                    kind,
                    "{file}: {uid}"
                );
                asked += 1;
            }
            if let Some(uid) = one["datasourceUid"].as_str() {
                assert!(provisioned.contains_key(uid), "{file}: {uid}");
            }
        }
        assert!(asked > 10, "{file}: {asked}");
    }
    // The data sources lead to each other, too.
    let text = text(example().join("provisioning/datasources.yaml"));
    let leads = text
        .lines()
        .filter_map(|line| line.split_once("datasourceUid: "));
    let leads: Vec<&str> = leads.map(|(_, uid)| uid.trim()).collect();
    assert!(leads.len() >= 4, "{leads:?}");
    assert!(
        leads.iter().all(|uid| provisioned.contains_key(*uid)),
        "{leads:?}"
    );
}

#[test]
fn metrics_and_their_labels_are_ones_that_are_sent() {
    let metrics = names::metrics();
    let promoted = names::promoted_labels(&yaml("prometheus.yaml"));
    let mut asked = BTreeSet::new();
    for Query {
        place,
        expression,
        templates,
    } in queries::of_kind("prometheus", &dashboards())
    {
        let words = identifiers(&expression);
        let used: Vec<&String> = words
            .iter()
            .filter(|word| metrics.contains_key(*word))
            .collect();
        assert!(!used.is_empty(), "{place}: no metric in {expression}");
        let labels: BTreeSet<&str> = used
            .iter()
            .flat_map(|metric| metrics[*metric].iter().chain(&promoted))
            .map(String::as_str)
            .collect();
        for word in &words {
            let known = metrics.contains_key(word)
                || labels.contains(word.as_str())
                || queries::PROMQL.contains(&word.as_str());
            assert!(known, "{place}: {word} in {expression}");
        }
        for label in templates {
            assert!(
                labels.contains(label.as_str()),
                "{place}: {label} in a legend"
            );
        }
        asked.extend(used.into_iter().cloned());
    }
    let all: BTreeSet<String> = names::of_stethos().into_keys().collect();
    let missing: Vec<&String> = all.difference(&asked).collect();
    assert!(missing.is_empty(), "on no dashboard: {missing:?}");
}

#[test]
fn logs_and_spans_are_asked_for_documented_attributes() {
    let documented = names::documented(&text(repository().join("docs/telemetry.md")));
    assert!(
        documented.contains("stethos.fault.culprit"),
        "{documented:?}"
    );
    let mut labels = names::of_lokis_own();
    labels.extend(documented.iter().map(|name| name.replace('.', "_")));
    let loki = queries::of_kind("loki", &dashboards());
    assert!(loki.len() > 6);
    for Query {
        place,
        expression,
        templates,
    } in loki
    {
        for word in identifiers(&expression).iter().chain(&templates) {
            let known = labels.contains(word) || queries::LOGQL.contains(&word.as_str());
            assert!(known, "{place}: {word} in {expression}");
        }
    }
    let tempo = queries::of_kind("tempo", &dashboards());
    assert!(!tempo.is_empty());
    for Query {
        place, expression, ..
    } in tempo
    {
        for word in identifiers(&expression) {
            let attribute = ["resource.", "span."]
                .iter()
                .find_map(|scope| word.strip_prefix(scope));
            let known = match attribute {
                Some(attribute) => documented.contains(attribute),
                None => queries::TRACEQL.contains(&word.as_str()),
            };
            assert!(known, "{place}: {word} in {expression}");
        }
    }
    for (place, field) in queries::fields(&dashboards()) {
        let known = labels.contains(&field) || queries::FIELDS.contains(&field.as_str());
        assert!(known, "{place}: field {field}");
    }
}

/// Request metrics are made from spans without Stethos's, as docs/telemetry.md says.
#[test]
fn faults_are_not_counted_as_requests() {
    let collector = yaml("collector/collector.yaml");
    let condition = r#"attributes["stethos.fault"] == true"#;
    let docs = text(repository().join("docs/telemetry.md"));
    assert!(docs.contains(condition));
    let conditions = &collector["processors"]["filter/without-faults"]["traces"]["span"];
    assert_eq!(conditions[0].as_str(), Some(condition));
    let pipelines = collector["service"]["pipelines"].as_hash().unwrap();
    let mut made = 0;
    for pipeline in pipelines.values() {
        let has = |key: &str, name: &str| {
            let names = pipeline[key].as_vec().into_iter().flatten();
            names.filter_map(Yaml::as_str).any(|one| one == name)
        };
        if has("exporters", "spanmetrics") {
            assert!(has("processors", "filter/without-faults"), "{pipeline:?}");
            made += 1;
        }
    }
    assert_eq!(made, 1);
}

/// The sidecar's variables are ones that it knows, and it listens where the shop sends its spans.
#[test]
fn the_sidecar_takes_its_variables() {
    let compose = yaml("compose.yaml");
    let variables = |service: &str| -> BTreeMap<String, String> {
        let given = compose["services"][service]["environment"].as_hash();
        let text = |one: &Yaml| one.as_str().unwrap().to_owned();
        let pairs = given.unwrap().iter().filter(|(_, value)| !value.is_hash());
        pairs.map(|(key, value)| (text(key), text(value))).collect()
    };
    let given = variables("stethos");
    let config = Config::load(None, &given, &[]).unwrap_or_else(|error| panic!("{error}"));
    let export = ExportConfig::read(&|name| given.get(name).cloned()).unwrap();
    assert!(export.warnings.is_empty(), "{:?}", export.warnings);
    let listens = config.trace.passthrough.listen.iter();
    let listens: Vec<String> = listens.map(|address| format!("http://{address}")).collect();
    let sends = &variables("shop-catalog")["OTEL_EXPORTER_OTLP_ENDPOINT"];
    assert!(listens.contains(sends), "{listens:?}");
}

#[test]
fn what_the_compose_file_names_is_there() {
    let compose = yaml("compose.yaml");
    let services = compose["services"].as_hash().unwrap();
    for (name, service) in services {
        let name = name.as_str().unwrap();
        match service["image"].as_str() {
            Some(image) => {
                let tag = image.rsplit_once(':').map(|(_, tag)| tag);
                assert!(tag.is_some_and(|tag| tag != "latest"), "{name}: {image}");
            }
            None => {
                let build = &service["build"];
                let context = example().join(build["context"].as_str().unwrap());
                let file = context.join(build["dockerfile"].as_str().unwrap());
                let stage = format!(" AS {}\n", build["target"].as_str().unwrap());
                assert!(text(&file).contains(&stage), "{name}: {}", file.display());
            }
        }
        let volumes = service["volumes"].as_vec().into_iter().flatten();
        for volume in volumes.filter_map(Yaml::as_str) {
            let source = volume.split(':').next().unwrap();
            let there = match source.starts_with('.') {
                true => example().join(source).exists(),
                false => !compose["volumes"].is_badvalue(),
            };
            assert!(there, "{name}: {volume}");
        }
    }
    let traces = |to: &str| yaml(&format!("collector/traces-{to}.yaml"));
    assert!(!traces("tempo")["exporters"]["otlp/tempo"].is_badvalue());
    assert!(!traces("jaeger")["exporters"]["otlp/jaeger"].is_badvalue());
}

#[test]
fn grafanas_own_types_and_grammars_take_them() {
    let test = "examples_grafana::grafanas_own_types_and_grammars_take_them";
    let Some(packages) = std::env::var_os("STETHOS_GRAFANA").map(PathBuf::from) else {
        skip(Need::Tool, test, "STETHOS_GRAFANA is not set");
        return;
    };
    let check = Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana/check.mjs");
    let mut command = Command::new(packages.join("node"));
    command.arg(check).arg(&packages).current_dir(example());
    let mut folder = Vec::new();
    files(&example().join("dashboards"), &mut folder);
    command.args(folder).arg("compose.yaml");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{error}");
    assert!(said.ends_with(" held, 0 wrong\n"), "{said}");
}
