//! Learning what is normal, with nobody tuning: when a container has been seen enough, the child
//! process that trains its models, and the bundles that it leaves.
//!
//! | module | holds |
//! | --- | --- |
//! | `container` | how far one container has got |
//! | [`progress`] | when learning ends (pure) |
//! | [`notebook`] | the recording that learning containers are trained from |
//! | [`training_set`] | recordings into what the trainer takes |
//! | [`child`] | the training process: low priority, bounded, killable |
//! | [`store`] | bundles on disk |

pub mod child;
mod container;
pub mod notebook;
pub mod progress;
pub mod store;
#[cfg(test)]
mod tests;
pub mod training_set;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use stethos_bundle::Bundle;
use stethos_patterns::Window;
use tokio::task::JoinSet;

use self::{
    child::{Training, TrainingError},
    container::{Container, Phase},
    notebook::Notebook,
    progress::{Bounds, Progress, Ready},
    store::{Key, Store, StoreError},
};
use crate::record::{ContainerIndex, Header, Nanos, ProcessInfo, Record};

/// How learning goes about it.
#[derive(Clone, Debug)]
pub struct Settings {
    pub bounds: Bounds,
    /// Where bundles and the notebook are kept.
    pub state_dir: PathBuf,
    /// Time, priority and memory of the training process.
    pub time_limit: std::time::Duration,
    pub nice: u8,
    pub memory: u64,
}

/// What failed (a training, keeping a bundle) is tried again after this long.
const RETRY_NS: u64 = 60_000_000_000;

/// What changed for a container.
#[derive(Clone, Debug)]
pub enum Change {
    Learning {
        container: ContainerIndex,
    },
    Training {
        container: ContainerIndex,
        ready: Ready,
        calls: u64,
        windows: u64,
    },
    /// A bundle is in force: from disk (`from_store`) or freshly trained.
    Watching {
        container: ContainerIndex,
        bundle: Arc<Bundle>,
        id: String,
        from_store: bool,
    },
    Failed {
        container: ContainerIndex,
        reason: String,
    },
}

/// State of all containers.
pub struct Learning {
    settings: Settings,
    arch: String,
    store: Store,
    notebook: Notebook,
    containers: BTreeMap<ContainerIndex, Container>,
    trainings: JoinSet<(ContainerIndex, Result<Vec<u8>, TrainingError>)>,
    /// Learned bundles in force that could not be written to disk.
    unkept: BTreeMap<Key, Unkept>,
    keep_at_ns: Nanos,
    /// Containers seen enough of which too little is recorded; said once.
    waiting: BTreeSet<ContainerIndex>,
    now_ns: Nanos,
}

struct Unkept {
    bundle: Vec<u8>,
    /// It was said that it could not be written.
    told: bool,
}

impl Unkept {
    fn new(bundle: Vec<u8>) -> Self {
        Self {
            bundle,
            told: false,
        }
    }
}

impl Learning {
    pub fn new(settings: Settings, header: &Header) -> Result<Self, StoreError> {
        let store = Store::open(&settings.state_dir)?;
        let notebook = Notebook::new(&settings.state_dir, header);
        Ok(Self {
            arch: header.arch.clone(),
            settings,
            store,
            notebook,
            containers: BTreeMap::new(),
            trainings: JoinSet::new(),
            unkept: BTreeMap::new(),
            keep_at_ns: 0,
            waiting: BTreeSet::new(),
            now_ns: 0,
        })
    }

    /// Takes a record; gives what it changed.
    pub fn on_record(&mut self, record: &Record) -> Option<Change> {
        let change = match record {
            Record::Container(info) => {
                self.containers
                    .entry(info.container)
                    .or_insert_with(|| Container::new(info.at_ns))
                    .name
                    .clone_from(&info.name);
                None
            }
            Record::Process(process) => self.first_process(process),
            Record::Tick(tick) => {
                self.now_ns = tick.at_ns;
                None
            }
            _ => None,
        };
        let learning = self.is_learning();
        self.notebook.take(record, learning);
        change
    }

    pub fn on_window(&mut self, window: &Window) {
        let container = self.containers.get_mut(&window.container);
        if let Some(progress) = container.and_then(|container| container.phase.progress()) {
            progress.on_window(window);
        }
    }

    /// Once a second: starts trainings that are due and collects those that ended.
    pub fn on_tick(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        while let Some(ended) = self.trainings.try_join_next() {
            if let Ok((container, result)) = ended {
                changes.extend(self.trained(container, result));
            }
        }
        if !self.unkept.is_empty() && self.now_ns >= self.keep_at_ns {
            self.keep();
        }
        for (index, container) in &mut self.containers {
            if container.has_waited(self.now_ns) {
                container.phase = Phase::learning(&self.settings);
                changes.push(Change::Learning { container: *index });
            }
        }
        let due: Vec<_> = self
            .containers
            .iter_mut()
            .filter_map(|(index, container)| Some((*index, container.due(self.now_ns)?)))
            .collect();
        for (container, ready) in due {
            changes.extend(self.train(container, ready));
        }
        changes
    }

    /// Name, unseen mass and calls of containers that are learning.
    pub fn progress(&self) -> impl Iterator<Item = (ContainerIndex, &str, &Progress)> {
        self.containers
            .iter()
            .filter_map(|(index, container)| match &container.phase {
                Phase::Learning(progress) => Some((*index, container.name.as_str(), &**progress)),
                _ => None,
            })
    }

    /// A container is known by its first process: its bundle may be there already.
    fn first_process(&mut self, process: &ProcessInfo) -> Option<Change> {
        let index = process.container;
        let container = self.containers.get_mut(&index)?;
        if container.key.is_some() {
            return None;
        }
        let key = Key::new(
            &container.name,
            &self.arch,
            &process.executable,
            &process.command_line,
        );
        container.key = Some(key.clone());
        if let Some(bytes) = container.keyless.take() {
            // It goes into force again, by the container's right name.
            let bundle = Bundle::read(&bytes, "the trained bundle");
            self.unkept.insert(key, Unkept::new(bytes));
            self.keep();
            return Some(watching(index, bundle.ok()?, false));
        }
        let stored = self.store.load(&key).unwrap_or_else(|error| {
            tracing::warn!(%error, "a stored bundle is not used; the container is learned anew");
            None
        });
        match stored {
            Some(bundle) if bundle.card.arch == self.arch => {
                container.phase = Phase::Watching;
                Some(watching(index, bundle, true))
            }
            _ if container.phase.is_new() => {
                container.phase = Phase::learning(&self.settings);
                Some(Change::Learning { container: index })
            }
            _ => None,
        }
    }

    /// Starts a training, once enough is recorded.
    fn train(&mut self, index: ContainerIndex, ready: Ready) -> Option<Change> {
        let needed = self.settings.bounds.min_calls.max(1);
        let recording = self.notebook.flush().map(PathBuf::from);
        let recorded = self.notebook.calls(index);
        let container = self.containers.get_mut(&index)?;
        let (Some(recording), true) = (recording, recorded >= needed) else {
            if self.waiting.insert(index) {
                let container = &container.name;
                tracing::warn!(
                    container,
                    recorded,
                    needed,
                    "training waits for recorded calls"
                );
            }
            return None;
        };
        self.waiting.remove(&index);
        let (calls, windows) = container.phase.start_training()?;
        let training = Training {
            recording,
            container: container.name.clone(),
            unseen_mass: ready.unseen_mass,
            widened: ready.widened,
            time_limit: self.settings.time_limit,
            nice: self.settings.nice,
            memory: self.settings.memory,
        };
        self.trainings
            .spawn(async move { (index, child::run(training).await) });
        Some(Change::Training {
            container: index,
            ready,
            calls,
            windows,
        })
    }

    /// None when a stored bundle was found meanwhile.
    fn trained(
        &mut self,
        index: ContainerIndex,
        result: Result<Vec<u8>, TrainingError>,
    ) -> Option<Change> {
        let container = self.containers.get_mut(&index)?;
        if !container.phase.is_training() {
            return None;
        }
        let loaded = result.map_err(|error| error.to_string()).and_then(|bytes| {
            let bundle = Bundle::read(&bytes, "the trained bundle");
            Ok((bundle.map_err(|error| error.to_string())?, bytes))
        });
        let (bundle, bytes) = match loaded {
            Ok(loaded) => loaded,
            Err(reason) => {
                container.phase.rest(self.now_ns + RETRY_NS);
                return Some(Change::Failed {
                    container: index,
                    reason,
                });
            }
        };
        container.phase = Phase::Watching;
        match container.key.clone() {
            Some(key) => drop(self.unkept.insert(key, Unkept::new(bytes))),
            None => container.keyless = Some(bytes),
        }
        // What nobody learns from any more may take the room that the bundle needs.
        if !self.is_learning() {
            self.notebook.close();
        }
        self.keep();
        Some(watching(index, bundle, false))
    }

    /// Writes bundles to disk that are not there yet.
    fn keep(&mut self) {
        self.keep_at_ns = self.now_ns + RETRY_NS;
        let store = &self.store;
        self.unkept
            .retain(|key, unkept| match store.save(key, &unkept.bundle) {
                Ok(()) => {
                    if unkept.told {
                        tracing::info!(bundle = %key, "the learned models are kept now");
                    }
                    false
                }
                Err(error) => {
                    if !unkept.told {
                        tracing::warn!(%error, "learned models are in force but not kept yet");
                    }
                    unkept.told = true;
                    true
                }
            });
    }

    fn is_learning(&self) -> bool {
        self.containers
            .values()
            .any(|container| container.phase.is_learning())
    }
}

fn watching(container: ContainerIndex, bundle: Bundle, from_store: bool) -> Change {
    Change::Watching {
        container,
        id: bundle.id(),
        bundle: Arc::new(bundle),
        from_store,
    }
}

impl Drop for Learning {
    fn drop(&mut self) {
        self.notebook.close();
        self.keep();
    }
}
