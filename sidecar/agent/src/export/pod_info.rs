//! What the pod's manifest says about it: labels and annotations, as the downward API writes them into
//! files.

use std::{collections::BTreeMap, fs, path::Path};

/// Bytes of a file that are read, and entries of it.
const MOST: usize = 256 << 10;
const ENTRIES: usize = 1024;
/// Annotations that are attributes of the resource.
const ATTRIBUTE: &str = "resource.opentelemetry.io/";
/// Labels that have an attribute, those first that go before others.
const LABELS: [(&str, &str); 4] = [
    ("app.kubernetes.io/instance", "service.name"),
    ("app.kubernetes.io/name", "service.name"),
    ("app.kubernetes.io/version", "service.version"),
    ("app.kubernetes.io/part-of", "service.namespace"),
];

/// Labels and annotations of the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodInfo {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

impl PodInfo {
    /// From the files `labels` and `annotations` of a folder; what is not there is empty.
    pub fn read(folder: &Path) -> Self {
        let file = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
        Self {
            labels: entries(&file("labels")),
            annotations: entries(&file("annotations")),
        }
    }

    /// Attributes that labels stand for, each once.
    pub(super) fn of_labels(&self) -> BTreeMap<&'static str, &str> {
        let mut attributes = BTreeMap::new();
        for (label, attribute) in LABELS {
            if let Some(value) = self.labels.get(label).filter(|value| !value.is_empty()) {
                attributes.entry(attribute).or_insert(value.as_str());
            }
        }
        attributes
    }

    /// Attributes that annotations set.
    pub(super) fn of_annotations(&self) -> impl Iterator<Item = (&str, &str)> {
        self.annotations.iter().filter_map(|(name, value)| {
            let attribute = name.strip_prefix(ATTRIBUTE)?;
            (!attribute.is_empty()).then_some((attribute, value.as_str()))
        })
    }
}

/// `key="value"` lines; values are quoted as in JSON. A line that is none is left out.
fn entries(text: &str) -> BTreeMap<String, String> {
    let text = &text[..text.floor_char_boundary(MOST)];
    let entry = |line: &str| {
        let (key, value) = line.split_once('=')?;
        let value: String = serde_json::from_str(value.trim()).ok()?;
        Some((key.trim().to_owned(), value))
    };
    text.lines().filter_map(entry).take(ENTRIES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_downward_api_are_read() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(PodInfo::read(folder.path()), PodInfo::default());
        let labels =
            "app.kubernetes.io/name=\"api\"\napp.kubernetes.io/version=\"1.2\"\nodd\nx=y\n";
        let annotations = "resource.opentelemetry.io/team=\"a \\\"b\\\"=c\"\nother=\"1\"\n\
            resource.opentelemetry.io/=\"none\"\n";
        fs::write(folder.path().join("labels"), labels).unwrap();
        fs::write(folder.path().join("annotations"), annotations).unwrap();
        let info = PodInfo::read(folder.path());
        let expected = BTreeMap::from([("service.name", "api"), ("service.version", "1.2")]);
        assert_eq!(info.of_labels(), expected);
        let set: Vec<_> = info.of_annotations().collect();
        assert_eq!(set, [("team", "a \"b\"=c")]);
    }

    #[test]
    fn the_instance_goes_before_the_name() {
        let labels = "app.kubernetes.io/name=\"api\"\napp.kubernetes.io/instance=\"shop-api\"";
        let info = PodInfo {
            labels: entries(labels),
            ..PodInfo::default()
        };
        assert_eq!(
            info.of_labels(),
            BTreeMap::from([("service.name", "shop-api")])
        );
    }
}
