//! The application of a container, as far as it is known.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    export::{PodInfo, Resource},
    record::{ContainerInfo, ProcessInfo},
};

/// What is known of a container's application.
#[derive(Default)]
pub(super) struct Application {
    pub(super) container: Option<ContainerInfo>,
    pub(super) processes: BTreeMap<u32, ProcessInfo>,
    /// Attributes of the resources that processes publish.
    pub(super) published: BTreeMap<u32, Vec<(String, String)>>,
    pub(super) resource: Option<Arc<Resource>>,
}

impl Application {
    pub(super) fn resource(&mut self, pod: &PodInfo) -> Arc<Resource> {
        if let Some(resource) = &self.resource {
            return resource.clone();
        }
        let container = self.container.clone().unwrap_or_else(|| ContainerInfo {
            at_ns: 0,
            container: 0,
            name: String::new(),
            id: None,
            cgroup_path: String::new(),
            image: None,
            image_digest: None,
        });
        let processes: Vec<ProcessInfo> = self.processes.values().cloned().collect();
        let variable = |name: &str| std::env::var(name).ok();
        let mut resource = Resource::of_application(&container, &processes, &variable, pod);
        // The main process's, or the first other one's.
        let published = self.published.values().find(|all| !all.is_empty());
        resource.take_published(published.into_iter().flatten());
        self.resource.insert(Arc::new(resource)).clone()
    }
}
