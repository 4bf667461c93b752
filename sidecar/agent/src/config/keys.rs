//! The keys of the configuration, read off the schema of [`Config`].

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::Config;

/// What the schema says about one place in the configuration.
#[derive(Clone, Copy)]
pub(super) struct Node<'a>(&'a Value);

/// What stands at a place.
pub(super) enum Shape<'a> {
    /// Named keys.
    Section(Vec<(&'a str, Node<'a>)>),
    /// A list, and what stands in it.
    List(Node<'a>),
    Scalar,
}

/// The schema of the whole configuration, without references.
pub(super) fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
    settings
        .into_generator()
        .into_root_schema_for::<Config>()
        .to_value()
}

impl<'a> Node<'a> {
    pub(super) fn root(schema: &'a Value) -> Self {
        Node(schema)
    }

    pub(super) fn shape(self) -> Shape<'a> {
        if let Some(properties) = self.0["properties"].as_object() {
            return Shape::Section(
                properties
                    .iter()
                    .map(|(name, node)| (name.as_str(), Node(node)))
                    .collect(),
            );
        }
        self.0
            .get("items")
            .map_or(Shape::Scalar, |items| Shape::List(Node(items)))
    }

    pub(super) fn description(self) -> &'a str {
        self.0["description"].as_str().unwrap_or_default()
    }

    /// `duration`, `size`, or what JSON calls the type.
    pub(super) fn format(self) -> &'a str {
        let format = self.0["format"]
            .as_str()
            .filter(|f| ["duration", "size"].contains(f));
        format.or(self.0["type"].as_str()).unwrap_or_default()
    }

    /// Least and greatest value, as written in the configuration.
    pub(super) fn range(self) -> Option<(&'a str, &'a str)> {
        let range = &self.0["x-range"];
        Some((range[0].as_str()?, range[1].as_str()?))
    }

    pub(super) fn min_items(self) -> u64 {
        self.0["minItems"].as_u64().unwrap_or(0)
    }

    /// Allowed words, where there is a closed list of them.
    pub(super) fn words(self) -> Vec<&'a str> {
        let words = self.0["enum"].as_array();
        words
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect()
    }
}

/// Every key that takes a value, as `section.key`.
pub(super) fn all<'a>(root: Node<'a>) -> Vec<(String, Node<'a>)> {
    fn walk<'a>(prefix: &str, node: Node<'a>, found: &mut Vec<(String, Node<'a>)>) {
        match node.shape() {
            Shape::Section(entries) => {
                for (name, child) in entries {
                    walk(&join(prefix, name), child, found);
                }
            }
            _ => found.push((prefix.to_string(), node)),
        }
    }
    let mut found = Vec::new();
    walk("", root, &mut found);
    found
}

pub(super) fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() {
        name.to_string()
    } else {
        format!("{prefix}.{name}")
    }
}

/// The variable that sets `key`.
pub(super) fn variable(key: &str) -> String {
    format!("STETHOS_{}", key.replace('.', "_").to_uppercase())
}

/// The candidate that `found` was most likely meant to be, if one is near.
pub(super) fn nearest(found: &str, candidates: impl Iterator<Item = String>) -> Option<String> {
    let last = |key: &str| key.rsplit('.').next().map(str::to_string);
    candidates
        .map(|candidate| {
            let whole = strsim::damerau_levenshtein(found, &candidate);
            let same_name = candidate.contains('.') && last(found) == last(&candidate);
            (if same_name { 1 } else { whole }, candidate)
        })
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= (found.len() / 4).clamp(1, 4))
        .map(|(_, candidate)| candidate)
}
