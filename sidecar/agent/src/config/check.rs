//! What is wrong with a configuration: first each source on its own, then the whole.

use std::time::Duration;

use config::{Value, ValueKind};

use super::error::{ConfigError, Place, Problem};
use super::keys::{self, Node, Shape};
use super::layers::{Layer, plain};
use super::{Config, Size, cross_checks};

/// Whether one source, on its own, says only what can be said.
pub(super) fn check_layer(layer: &Layer, root: Node<'_>, problems: &mut Vec<Problem>) {
    let before = problems.len();
    let values = Value::new(None, ValueKind::Table(layer.values.clone()));
    check_names(layer, "", &values, root, root, problems);
    if problems.len() > before {
        return;
    }
    if let Err(error) = serde_path_to_error::deserialize::<_, Config>(values) {
        let key = error.path().to_string();
        let what = plain(error.inner());
        problems.push(Problem::Invalid {
            place: layer.place.clone(),
            key,
            what,
        });
    }
}

fn check_names(
    layer: &Layer,
    key: &str,
    value: &Value,
    node: Node<'_>,
    root: Node<'_>,
    problems: &mut Vec<Problem>,
) {
    match (node.shape(), &value.kind) {
        (Shape::Section(known), ValueKind::Table(entries)) => {
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_by_key(|(name, _)| name.as_str());
            for (name, entry) in entries {
                let path = keys::join(key, name);
                match known.iter().find(|(known, _)| known == name) {
                    Some((_, child)) => check_names(layer, &path, entry, *child, root, problems),
                    None => {
                        let here = known.iter().map(|(name, _)| keys::join(key, name));
                        let everywhere = keys::all(root).into_iter().map(|(key, _)| key);
                        let suggestion = keys::nearest(&path, here.chain(everywhere));
                        let place = layer.place.clone();
                        problems.push(Problem::UnknownKey {
                            place,
                            key: path,
                            suggestion,
                        });
                    }
                }
            }
        }
        (Shape::Section(known), _) => {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            let what = format!("found {value}; this is a section with {}", names.join(", "));
            let (place, key) = (layer.place.clone(), key.to_string());
            problems.push(Problem::Invalid { place, key, what });
        }
        (Shape::List(items), ValueKind::Array(values)) => {
            for (i, value) in values.iter().enumerate() {
                check_names(layer, &format!("{key}[{i}]"), value, items, root, problems);
            }
        }
        (Shape::Scalar, kind) if is_other_type(node.format(), kind) => {
            let what = format!("found {value}, expected type {}", node.format());
            let (place, key) = (layer.place.clone(), key.to_string());
            problems.push(Problem::Invalid { place, key, what });
        }
        _ => {}
    }
}

/// Types that `config` would convert, against what was meant: 2.7 to 3, `true` to 1.
fn is_other_type(format: &str, kind: &ValueKind) -> bool {
    match kind {
        ValueKind::Float(_) => ["integer", "boolean"].contains(&format),
        ValueKind::Boolean(_) => ["integer", "number"].contains(&format),
        ValueKind::I64(_) => format == "boolean",
        _ => false,
    }
}

/// Whether the whole, of right types by now, is within what is allowed.
pub(super) fn check_values(
    config: &Config,
    root: Node<'_>,
    layers: &[Layer],
) -> Result<(), ConfigError> {
    let values = serde_json::to_value(config).map_err(|error| Problem::Parse {
        file: "configuration".into(),
        what: error.to_string(),
    })?;
    let mut wrong = Vec::new();
    check_ranges("", &values, root, &mut wrong);
    let crossed = cross_checks(config);
    wrong.extend(
        crossed
            .into_iter()
            .map(|(key, value, allowed)| (key.into(), value, allowed)),
    );
    let problems: Vec<Problem> = wrong
        .into_iter()
        .map(|(key, value, allowed)| {
            let place = source_of(&key, layers);
            Problem::NotAllowed {
                place,
                key,
                value,
                allowed,
            }
        })
        .collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(ConfigError { problems })
    }
}

/// Collects key, value and what is allowed, for every value out of its range.
fn check_ranges(
    key: &str,
    value: &serde_json::Value,
    node: Node<'_>,
    wrong: &mut Vec<(String, String, String)>,
) {
    match node.shape() {
        Shape::Section(known) => {
            for (name, child) in known {
                check_ranges(&keys::join(key, name), &value[name], child, wrong);
            }
        }
        Shape::List(items) => {
            let values = value.as_array().map(Vec::as_slice).unwrap_or_default();
            if (values.len() as u64) < node.min_items() {
                let allowed = format!("a list of at least {}", node.min_items());
                wrong.push((key.to_string(), "empty".to_string(), allowed));
            }
            for (i, value) in values.iter().enumerate() {
                check_ranges(&format!("{key}[{i}]"), value, items, wrong);
            }
        }
        Shape::Scalar => {
            let Some((least, greatest)) = node.range() else {
                return;
            };
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_string);
            let number = |text: &str| magnitude(node.format(), text);
            let inside = number(least) <= number(&text) && number(&text) <= number(greatest);
            if !inside || number(&text).is_none() {
                wrong.push((key.to_string(), text, format!("{least} to {greatest}")));
            }
        }
    }
}

/// A value of the given format as a number, for comparison.
pub(super) fn magnitude(format: &str, text: &str) -> Option<f64> {
    match format {
        "duration" => humantime_serde::re::humantime::parse_duration(text)
            .as_ref()
            .map(Duration::as_secs_f64)
            .ok(),
        "size" => text.parse::<Size>().map(|size| size.bytes() as f64).ok(),
        _ => text.parse().ok().filter(|number: &f64| number.is_finite()),
    }
}

/// The last layer that sets `key` or something inside it.
fn source_of(key: &str, layers: &[Layer]) -> Place {
    let key = key.split('[').next().unwrap_or(key);
    let sets = |layer: &&Layer| {
        let mut path = key.split('.');
        let first = path.next().and_then(|name| layer.values.get(name));
        let found = path.fold(first, |value, name| match &value?.kind {
            ValueKind::Table(entries) => entries.get(name),
            _ => None,
        });
        found.is_some()
    };
    layers
        .iter()
        .rev()
        .find(sets)
        .map_or(Place::Default, |layer| layer.place.clone())
}
