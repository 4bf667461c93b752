//! Learning as it is configured.

use std::{ffi::OsString, sync::Arc};

use crate::{
    config::Config,
    export::{PodInfo, Resource},
    learning::{
        Settings, Workload,
        progress::Bounds,
        shared::{OpenError, SharedStore},
    },
};

/// The store that replicas share.
pub(super) fn store(config: &Config) -> Result<Option<Arc<SharedStore>>, OpenError> {
    SharedStore::open(&config.learning.store, variables())
}

/// Variables that are text; no other one is meant for a store.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| {
        let text = |word: OsString| word.into_string().ok();
        Some((text(name)?, text(value)?))
    })
}

/// The pod, where its manifest says which one it is; otherwise the host as it calls itself.
fn replica() -> String {
    let named = ["K8S_POD_UID", "K8S_POD_NAME", "HOSTNAME"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|value| !value.is_empty());
    named.unwrap_or_else(|| {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname");
        host.unwrap_or_default().trim().to_owned()
    })
}

pub(super) fn settings(config: &Config) -> Settings {
    let learning = &config.learning;
    let workload = match learning.store.workload.as_str() {
        "" => Workload::Found(|container, process| {
            let variable = |name: &str| std::env::var(name).ok();
            Resource::of_application(
                container,
                std::slice::from_ref(process),
                &variable,
                &PodInfo::default(),
            )
            .workload()
        }),
        name => Workload::Named(name.to_owned()),
    };
    Settings {
        bounds: Bounds {
            unseen: learning.unseen_bound,
            min_duration: learning.min_duration,
            min_calls: learning.min_calls,
            ceiling: learning.ceiling,
        },
        state_dir: config.state_dir.clone(),
        time_limit: learning.training.time_limit,
        nice: learning.training.nice,
        memory: learning.training.memory.bytes(),
        tenant: learning.store.tenant.clone(),
        replica: replica(),
        workload,
    }
}
