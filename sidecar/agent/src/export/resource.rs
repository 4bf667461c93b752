//! The resource of what is diagnosed: the application's, so that its own telemetry and Stethos's
//! meet under one `service.name`.

use std::collections::BTreeMap;

use opentelemetry::{Array, KeyValue, StringValue, Value};
use percent_encoding::percent_decode_str;

use super::pod_info::PodInfo;
use crate::{
    capture::runtime::without_tag,
    record::{ContainerInfo, ProcessInfo},
};

/// Variables that the pod's manifest may set on the sidecar (downward API).
const KUBERNETES: [(&str, &str); 6] = [
    ("K8S_POD_NAME", "k8s.pod.name"),
    ("K8S_POD_UID", "k8s.pod.uid"),
    ("K8S_NAMESPACE_NAME", "k8s.namespace.name"),
    ("K8S_NODE_NAME", "k8s.node.name"),
    ("K8S_DEPLOYMENT_NAME", "k8s.deployment.name"),
    ("K8S_CLUSTER_NAME", "k8s.cluster.name"),
];

/// Attributes that are lists by convention, of which one entry is known.
const LISTS: [&str; 2] = ["container.image.repo_digests", "container.image.tags"];

/// Where environment variables come from; tests give their own.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Resource attributes by name. All values are strings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Resource(BTreeMap<String, String>);

impl Resource {
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    pub(super) fn to_sdk(&self) -> opentelemetry_sdk::Resource {
        let attribute = |(key, value): (&str, &str)| {
            let value = StringValue::from(value.to_owned());
            let value = match LISTS.contains(&key) {
                true => Value::Array(Array::String(vec![value])),
                false => Value::String(value),
            };
            KeyValue::new(key.to_owned(), value)
        };
        opentelemetry_sdk::Resource::builder_empty()
            .with_attributes(self.iter().map(attribute))
            .build()
    }

    fn set(&mut self, key: &str, value: impl Into<String>) {
        let value = value.into();
        if !value.is_empty() {
            self.0.insert(key.to_owned(), value);
        }
    }

    fn set_image(&mut self, container: &ContainerInfo) {
        let image = container.image.as_deref().unwrap_or_default();
        let name = without_tag(image);
        self.set("container.image.name", name);
        let tag = image.strip_prefix(name).unwrap_or_default();
        self.set("container.image.tags", tag.trim_start_matches(':'));
        let digest = container.image_digest.as_deref().unwrap_or_default();
        match digest.contains('@') {
            true => self.set("container.image.repo_digests", digest),
            false => self.set("container.image.id", digest),
        }
    }

    /// The resource of a container's application, from its processes (main process first) and what
    /// the pod says about itself in the sidecar's own environment.
    ///
    /// What the application declares wins: `OTEL_SERVICE_NAME`, then `OTEL_RESOURCE_ATTRIBUTES`, then the
    /// pod's annotations, its labels, and what was detected. `service.name` falls back to the executable's
    /// name.
    pub fn of_application(
        container: &ContainerInfo,
        processes: &[ProcessInfo],
        sidecar: Lookup<'_>,
        pod: &PodInfo,
    ) -> Self {
        let mut resource = Resource::default();
        resource.set("container.name", container.name.as_str());
        resource.set("container.id", container.id.as_deref().unwrap_or_default());
        resource.set_image(container);
        resource.set("host.arch", host_arch());
        for (variable, attribute) in KUBERNETES {
            resource.set(attribute, sidecar(variable).unwrap_or_default());
        }
        let declared = |name: &str| {
            processes
                .iter()
                .flat_map(|p| &p.environment)
                .find(|(key, _)| key == name)
        };
        let host = declared("HOSTNAME").map(|(_, value)| value.clone());
        let host = host
            .or_else(|| sidecar("HOSTNAME"))
            .unwrap_or_else(kernel_hostname);
        resource.set("host.name", host);
        let executable = processes
            .iter()
            .map(|p| base_name(&p.executable))
            .find(|n| !n.is_empty());
        resource.set("process.executable.name", executable.unwrap_or_default());
        resource.set("service.name", executable.unwrap_or(&container.name));
        for (attribute, value) in pod.of_labels().into_iter().chain(pod.of_annotations()) {
            resource.set(attribute, value);
        }
        if let Some((_, list)) = declared("OTEL_RESOURCE_ATTRIBUTES") {
            resource
                .0
                .extend(parse_attributes(list).into_iter().flatten());
        }
        if let Some((_, name)) = declared("OTEL_SERVICE_NAME") {
            resource.set("service.name", name.as_str());
        }
        resource
    }

    /// Takes over what the application publishes about itself: it knows best.
    pub fn take_published<'a>(&mut self, attributes: impl Iterator<Item = &'a (String, String)>) {
        for (key, value) in attributes {
            self.set(key, value.as_str());
        }
    }

    /// What the application is a replica of: the deployment's name, else the service's, after the
    /// namespace where that is known.
    pub fn workload(&self) -> String {
        let name = self.get("k8s.deployment.name").or(self.get("service.name"));
        let name = name.unwrap_or_default();
        match self.get("k8s.namespace.name") {
            Some(namespace) => format!("{namespace}.{name}"),
            None => name.to_owned(),
        }
    }

    /// Stethos's own resource, for its health metrics.
    pub fn of_stethos(environment: Lookup<'_>) -> Self {
        let mut resource = Resource::default();
        resource.set("host.arch", host_arch());
        resource.set(
            "host.name",
            environment("HOSTNAME").unwrap_or_else(kernel_hostname),
        );
        resource.set("process.pid", std::process::id().to_string());
        for (variable, attribute) in KUBERNETES {
            resource.set(attribute, environment(variable).unwrap_or_default());
        }
        resource.set("service.name", "stethos");
        resource.set("service.version", env!("CARGO_PKG_VERSION"));
        if let Some(list) = environment("OTEL_RESOURCE_ATTRIBUTES") {
            resource
                .0
                .extend(parse_attributes(&list).into_iter().flatten());
        }
        resource.set(
            "service.name",
            environment("OTEL_SERVICE_NAME").unwrap_or_default(),
        );
        resource
    }
}

/// Last component of a path.
fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// `key=value,…` with percent-encoded values. As the specification asks, one malformed pair
/// discards the whole list.
fn parse_attributes(list: &str) -> Option<BTreeMap<String, String>> {
    let pairs = list
        .split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=')?;
            let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
            (!key.trim().is_empty()).then(|| (key.trim().to_owned(), value.into_owned()))
        })
        .collect()
}

fn host_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn kernel_hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container() -> ContainerInfo {
        ContainerInfo {
            at_ns: 0,
            container: 0,
            name: "cri-abc.scope".into(),
            id: Some("abc".into()),
            cgroup_path: "/pods/abc".into(),
            image: None,
            image_digest: None,
        }
    }

    fn process(environment: &[(&str, &str)]) -> ProcessInfo {
        let environment = environment
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()));
        ProcessInfo {
            at_ns: 0,
            container: 0,
            pid: 7,
            executable: "/usr/bin/redis-server".into(),
            command_line: vec![],
            environment: environment.collect(),
            listens: vec![],
        }
    }

    #[test]
    fn what_the_application_declares_wins() {
        let declared = process(&[
            ("HOSTNAME", "pod-1"),
            (
                "OTEL_RESOURCE_ATTRIBUTES",
                "service.name=a,service.version=1%2C2,team=b",
            ),
            ("OTEL_SERVICE_NAME", "checkout"),
        ]);
        let pod = |name: &str| (name == "K8S_POD_NAME").then(|| "pod-1".to_owned());
        let resource =
            Resource::of_application(&container(), &[declared], &pod, &PodInfo::default());
        assert_eq!(resource.get("service.name"), Some("checkout"));
        assert_eq!(resource.get("service.version"), Some("1,2"));
        assert_eq!(resource.get("team"), Some("b"));
        assert_eq!(resource.get("container.id"), Some("abc"));
        assert_eq!(resource.get("host.name"), Some("pod-1"));
        assert_eq!(resource.get("k8s.pod.name"), Some("pod-1"));
        assert_eq!(resource.get("k8s.node.name"), None);
    }

    #[test]
    fn without_declarations_the_executable_names_the_service() {
        let nothing = |_: &str| None;
        let resource =
            Resource::of_application(&container(), &[process(&[])], &nothing, &PodInfo::default());
        assert_eq!(resource.get("service.name"), Some("redis-server"));
        assert_eq!(
            resource.get("process.executable.name"),
            Some("redis-server")
        );
        let gone = Resource::of_application(&container(), &[], &nothing, &PodInfo::default());
        assert_eq!(gone.get("service.name"), Some("cri-abc.scope"));
    }

    #[test]
    fn replicas_have_the_same_workload() {
        let workload = |variables: &[(&str, &str)], declared: &[(&str, &str)]| {
            let variable = |name: &str| {
                let found = variables.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| value.to_string())
            };
            Resource::of_application(
                &container(),
                &[process(declared)],
                &variable,
                &PodInfo::default(),
            )
            .workload()
        };
        let namespace = ("K8S_NAMESPACE_NAME", "shop");
        let deployment = ("K8S_DEPLOYMENT_NAME", "cache");
        let declared = [("OTEL_SERVICE_NAME", "redis")];
        assert_eq!(workload(&[namespace, deployment], &declared), "shop.cache");
        assert_eq!(workload(&[namespace], &declared), "shop.redis");
        assert_eq!(workload(&[], &declared), "redis");
        assert_eq!(workload(&[("K8S_POD_NAME", "a-1")], &[]), "redis-server");
    }

    #[test]
    fn the_image_is_told_as_far_as_it_is_known() {
        let nothing = |_: &str| None;
        let of = |image: &str, digest: &str| {
            let container = ContainerInfo {
                image: Some(image.to_owned()),
                image_digest: Some(digest.to_owned()),
                ..container()
            };
            Resource::of_application(&container, &[], &nothing, &PodInfo::default())
        };
        let resource = of("localhost:5000/api:1.2", "localhost:5000/api@sha256:12");
        let image = "container.image.name";
        assert_eq!(resource.get(image), Some("localhost:5000/api"));
        assert_eq!(resource.get("container.image.tags"), Some("1.2"));
        assert_eq!(resource.get("container.image.id"), None);
        let sent = resource.to_sdk();
        let digests = sent.get(&"container.image.repo_digests".into());
        let list = vec![StringValue::from("localhost:5000/api@sha256:12")];
        assert_eq!(digests, Some(Value::Array(Array::String(list))));
        let resource = of("localhost:5000/api", "sha256:12");
        assert_eq!(resource.get(image), Some("localhost:5000/api"));
        assert_eq!(resource.get("container.image.tags"), None);
        assert_eq!(resource.get("container.image.repo_digests"), None);
        assert_eq!(resource.get("container.image.id"), Some("sha256:12"));
        let unknown =
            Resource::of_application(&self::container(), &[], &nothing, &PodInfo::default());
        assert!(unknown.iter().all(|(key, _)| !key.starts_with(image)));
    }

    #[test]
    fn a_malformed_list_is_discarded_whole() {
        assert_eq!(parse_attributes("a=1,b"), None);
        assert_eq!(parse_attributes("=1"), None);
        assert_eq!(parse_attributes("a=%ff"), None);
        assert_eq!(parse_attributes("").map(|m| m.len()), Some(0));
        assert_eq!(
            parse_attributes(" a = 1 , b=2=3").and_then(|m| m.get("b").cloned()),
            Some("2=3".into())
        );
    }

    #[test]
    fn stethos_has_its_own_service_name() {
        let environment = |name: &str| match name {
            "OTEL_SERVICE_NAME" => Some("stethos-canary".to_owned()),
            "OTEL_RESOURCE_ATTRIBUTES" => Some("deployment.environment.name=test".to_owned()),
            _ => None,
        };
        assert_eq!(
            Resource::of_stethos(&|_| None).get("service.name"),
            Some("stethos")
        );
        let resource = Resource::of_stethos(&environment);
        assert_eq!(resource.get("service.name"), Some("stethos-canary"));
        assert_eq!(resource.get("deployment.environment.name"), Some("test"));
    }
}
