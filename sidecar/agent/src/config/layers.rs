//! Where values come from, each source checked on its own so that an error can name it.

use std::collections::BTreeMap;

use config::{ConfigError as Cause, File, FileFormat, Map, Source, Value, ValueKind};

use super::check::{check_layer, check_values};
use super::error::{ConfigError, Place, Problem};
use super::keys::{self, Node, Shape};
use super::{Config, FILE_VARIABLE};

const PREFIX: &str = "STETHOS_";

/// Environment variables, name to value.
pub type Variables = BTreeMap<String, String>;

/// The `STETHOS_*` variables of this process.
pub fn process_variables() -> Variables {
    std::env::vars_os()
        .map(|(name, value)| (lossy(name), lossy(value)))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect()
}

fn lossy(text: std::ffi::OsString) -> String {
    text.to_string_lossy().into_owned()
}

/// A value given on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// As typed: `--target`.
    pub name: &'static str,
    pub key: &'static str,
    /// Entries of a list; one word for any other key.
    pub words: Vec<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub(super) place: Place,
    pub(super) values: Map<String, Value>,
}

impl Layer {
    /// One key and its value.
    fn single(place: Place, key: &str, value: Value) -> Self {
        let mut path: Vec<&str> = key.split('.').collect();
        let mut values = Map::new();
        values.insert(path.pop().unwrap_or_default().to_string(), value);
        while let Some(section) = path.pop() {
            let inner = Value::new(None, ValueKind::Table(std::mem::take(&mut values)));
            values.insert(section.to_string(), inner);
        }
        Self { place, values }
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, Cause> {
        Ok(self.values.clone())
    }
}

/// `file` is the name and the text of the configuration file.
pub(super) fn merge(
    file: Option<(&str, &str)>,
    variables: &Variables,
    flags: &[Flag],
) -> Result<Config, ConfigError> {
    let schema = keys::schema();
    let root = Node::root(&schema);
    let keys = keys::all(root);
    let mut layers = Vec::new();
    let mut problems = Vec::new();
    if let Some((name, text)) = file {
        layers.push(file_layer(name, text)?);
    }
    for (name, value) in variables {
        if !name.starts_with(PREFIX) || name == FILE_VARIABLE || value.is_empty() {
            continue;
        }
        match keys.iter().find(|(key, _)| keys::variable(key) == *name) {
            Some((key, node)) => {
                let place = Place::Variable(name.clone());
                let value = from_text(&place, key, *node, value)?;
                layers.push(Layer::single(place, key, value));
            }
            None if is_service_link(name) => {}
            None => {
                let known = keys.iter().map(|(key, _)| keys::variable(key));
                let suggestion = keys::nearest(name, known);
                problems.push(Problem::UnknownVariable {
                    name: name.clone(),
                    suggestion,
                });
            }
        }
    }
    for Flag { name, key, words } in flags {
        if let Some((_, node)) = keys.iter().find(|(known, _)| known == key) {
            let value = match (node.shape(), &words[..]) {
                (Shape::Scalar, [word]) => word.clone().into(),
                _ => words.clone().into(),
            };
            layers.push(Layer::single(Place::Flag(name.to_string()), key, value));
        }
    }
    for layer in &layers {
        check_layer(layer, root, &mut problems);
    }
    if !problems.is_empty() {
        return Err(ConfigError { problems });
    }
    let merged = layers
        .iter()
        .fold(config::Config::builder(), |b, l| b.add_source(l.clone()));
    let merged: Config = merged
        .build()
        .and_then(config::Config::try_deserialize)
        .map_err(|cause| Problem::Invalid {
            place: layers
                .last()
                .map_or(Place::Default, |layer| layer.place.clone()),
            key: String::new(),
            what: plain(&cause),
        })?;
    check_values(&merged, root, &layers)?;
    Ok(merged)
}

fn file_layer(name: &str, text: &str) -> Result<Layer, Problem> {
    let parsed = File::from_str(text, FileFormat::Yaml).collect();
    let values = parsed.and_then(|values| {
        let mut values = Value::new(None, ValueKind::Table(values));
        drop_nulls(&mut values);
        // Brings keys with dots to the sections that they name.
        let flat = Layer {
            place: Place::Default,
            values: values.into_table()?,
        };
        config::Config::builder()
            .add_source(flat)
            .build()?
            .collect()
    });
    match values {
        Ok(values) => Ok(Layer {
            place: Place::File(name.to_string()),
            values,
        }),
        Err(cause) => Err(Problem::Parse {
            file: name.to_string(),
            what: plain(&cause),
        }),
    }
}

/// A section or key without a value says nothing: the default holds.
fn drop_nulls(value: &mut Value) {
    match &mut value.kind {
        ValueKind::Table(entries) => {
            entries.retain(|_, entry| entry.kind != ValueKind::Nil);
            entries.values_mut().for_each(drop_nulls);
        }
        ValueKind::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// A value from text: a list of words by commas, a list of sections as YAML (so JSON, too).
fn from_text(place: &Place, key: &str, node: Node<'_>, text: &str) -> Result<Value, Problem> {
    match node.shape() {
        Shape::List(items) if matches!(items.shape(), Shape::Section(_)) => {
            let parsed = File::from_str(&format!("value: {text}"), FileFormat::Yaml).collect();
            parsed
                .map(|mut values| values.remove("value").unwrap_or_default())
                .map_err(|cause| {
                    let what = format!("not a list in YAML or JSON: {}", plain(&cause));
                    Problem::Invalid {
                        place: place.clone(),
                        key: key.to_string(),
                        what,
                    }
                })
        }
        Shape::List(_) => {
            let words: Vec<_> = text
                .split(',')
                .map(|word| word.trim().to_string())
                .collect();
            Ok(words.into())
        }
        _ => Ok(text.to_string().into()),
    }
}

/// Kubernetes puts the address of every Service `stethos…` into such variables of a pod.
fn is_service_link(name: &str) -> bool {
    let after_port = |rest: &str| {
        let mut parts = rest.split('_');
        let number = parts.next().is_some_and(|port| port.parse::<u16>().is_ok());
        number
            && parts
                .next()
                .is_some_and(|kind| ["TCP", "UDP", "SCTP"].contains(&kind))
    };
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.ends_with("_PORT")
        || name
            .split_once("_PORT_")
            .is_some_and(|(_, rest)| after_port(rest))
}

/// The cause without the key and origin that `config` adds to it.
pub(super) fn plain(cause: &Cause) -> String {
    match cause {
        Cause::At { error, .. } => plain(error),
        Cause::Type {
            unexpected,
            expected,
            ..
        } => format!("found {unexpected}, expected {expected}"),
        Cause::FileParse { cause, .. } => cause.to_string(),
        Cause::NotFound(key) => {
            format!(
                "`{}` is missing",
                key.rsplit(['.', ']']).next().unwrap_or(key)
            )
        }
        other => other.to_string(),
    }
}
