//! The queries of dashboards, and the words in them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

pub(crate) const PROMQL: &[&str] = &[
    "by",
    "count",
    "histogram_quantile",
    "increase",
    "label_values",
    "max",
    "min",
    "rate",
    "sum",
];
pub(crate) const LOGQL: &[&str] = &["__line__", "by", "count_over_time", "line_format", "sum"];
pub(crate) const TRACEQL: &[&str] = &["name", "true"];
/// Fields of a table of logs that are no labels.
pub(crate) const FIELDS: &[&str] = &["Decided", "Line", "Time", "labels"];

/// A query, and the labels that the templates beside it fill in.
pub(crate) struct Query {
    pub(crate) place: String,
    pub(crate) expression: String,
    pub(crate) templates: BTreeSet<String>,
}

/// Of targets, annotations and variables.
pub(crate) fn of_kind(kind: &str, dashboards: &BTreeMap<String, Value>) -> Vec<Query> {
    let mut found = Vec::new();
    for (file, dashboard) in dashboards {
        for one in super::all(dashboard) {
            if one["datasource"]["type"] != kind {
                continue;
            }
            let asked = ["expr", "query"].into_iter().find_map(|key| {
                let asked = &one[key];
                asked.as_str().or_else(|| asked["query"].as_str())
            });
            let Some(expression) = asked else {
                assert!(
                    one["targets"].is_array(),
                    "{file}: a query of nothing: {one}"
                );
                continue;
            };
            let beside = ["legendFormat", "titleFormat", "textFormat"];
            let mut templates: BTreeSet<String> = beside
                .iter()
                .filter_map(|key| one[*key].as_str())
                .flat_map(filled_in)
                .collect();
            templates.extend(filled_in(expression));
            let tags = one["tagKeys"].as_str().unwrap_or_default();
            templates.extend(
                tags.split(',')
                    .filter(|tag| !tag.is_empty())
                    .map(str::to_owned),
            );
            found.push(Query {
                place: file.clone(),
                expression: expression.to_owned(),
                templates,
            });
        }
    }
    found
}

/// Names within `{{ }}`.
fn filled_in(template: &str) -> Vec<String> {
    let parts = template.split("{{").skip(1);
    let names = parts.filter_map(|part| part.split_once("}}"));
    names
        .map(|(name, _)| name.trim().trim_start_matches('.').to_owned())
        .collect()
}

/// Words of an expression outside its texts, ranges and variables; dots belong to them.
pub(crate) fn identifiers(expression: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '"' => after(rest, '"'),
            '`' => after(rest, '`'),
            '[' => after(rest, ']'),
            '$' => first.len_utf8() + word(&rest[1..]),
            '0'..='9' => word(rest),
            'a'..='z' | 'A'..='Z' | '_' => {
                found.insert(rest[..word(rest)].to_owned());
                word(rest)
            }
            other => other.len_utf8(),
        };
        rest = &rest[end..];
    }
    found
}

fn word(text: &str) -> usize {
    let of_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    text.find(|c| !of_word(c)).unwrap_or(text.len())
}

/// Length up to and with the next `closing` after the first character.
fn after(text: &str, closing: char) -> usize {
    text[1..].find(closing).map_or(text.len(), |at| at + 2)
}

/// Fields of logs that transformations of panels name.
pub(crate) fn fields(dashboards: &BTreeMap<String, Value>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (file, dashboard) in dashboards {
        for panel in dashboard["panels"].as_array().into_iter().flatten() {
            if panel["datasource"]["type"] != "loki" {
                continue;
            }
            for options in super::all(&panel["transformations"]) {
                let by_name = options["id"] == "byName";
                let listed = ["names", "fields"].map(|key| options[key].as_array());
                let single = ["targetField", "field", "source"].map(|key| options[key].as_str());
                let renamed = options["renameByName"].as_object();
                let names = listed
                    .into_iter()
                    .flatten()
                    .flatten()
                    .filter_map(Value::as_str);
                let names = names
                    .chain(single.into_iter().flatten())
                    .chain(options["options"].as_str().filter(|_| by_name))
                    .chain(
                        renamed
                            .into_iter()
                            .flat_map(|map| map.keys().map(String::as_str)),
                    );
                found.extend(names.map(|name| (file.clone(), name.to_owned())));
            }
        }
    }
    assert!(found.len() > 10, "{found:?}");
    found
}
