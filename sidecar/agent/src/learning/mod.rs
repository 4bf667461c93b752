//! Learning what is normal, with nobody tuning: when a container has been seen enough, the child
//! process that trains its models, and the bundles that it leaves.
//!
//! | module | holds |
//! | --- | --- |
//! | `accepting`, `kept` | what an operator accepts, and where it is kept |
//! | `held` | times of which nothing is learned (pure) |
//! | `settings` | how learning goes about it, and what names its models are shared under |
//! | [`change`] | what it says of a container |
//! | `container` | how far one container has got |
//! | [`progress`] | when learning ends (pure) |
//! | [`notebook`] | the recording that learning containers are trained from |
//! | [`training_set`] | recordings into what the trainer takes |
//! | [`child`] | the training process: low priority, bounded, killable |
//! | [`headroom`] | how much memory it may take (cgroup files) |
//! | `resuming` | going on with what an earlier process saw |
//! | `keeping` | what could not be written yet |
//! | [`store`] | bundles on disk |
//! | `proving` | new versions of an image, until enough replicas have seen them healthy |
//! | [`shared`] | the store of bundles that replicas share |
//! | `sharing` | what it is asked, and what its answers change |

mod accepting;
pub mod change;
pub mod child;
mod container;
pub mod headroom;
mod held;
mod keeping;
mod kept;
pub mod notebook;
pub mod progress;
mod proving;
mod resuming;
mod settings;
pub mod shared;
mod sharing;
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
use tokio::task::{AbortHandle, JoinSet};

pub use self::{
    accepting::{Accepting, Trouble},
    change::Change,
    settings::{Settings, Workload},
};
use self::{
    change::{Meanwhile, Source},
    child::{Training, TrainingError},
    container::{Container, Phase},
    keeping::Unkept,
    notebook::Notebook,
    progress::{Progress, Ready},
    resuming::Replayed,
    sharing::Sharing,
    store::{Key, Store, StoreError},
};
use crate::record::{ContainerIndex, Header, Nanos, ProcessInfo, Record};

/// What failed (a training, keeping a bundle) is tried again after this long.
const RETRY_NS: u64 = 60_000_000_000;

/// State of all containers.
pub struct Learning {
    settings: Settings,
    arch: String,
    store: Store,
    notebook: Notebook,
    containers: BTreeMap<ContainerIndex, Container>,
    sharing: Option<Sharing>,
    trainings: JoinSet<(ContainerIndex, Result<Vec<u8>, TrainingError>)>,
    /// Recordings of earlier processes that are read.
    replays: JoinSet<(ContainerIndex, Replayed)>,
    started_ns: Option<Nanos>,
    /// The training of a container that runs.
    running: BTreeMap<ContainerIndex, AbortHandle>,
    /// Learned bundles in force that could not be written to disk.
    unkept: BTreeMap<Key, Unkept>,
    keep_at_ns: Nanos,
    /// Containers seen enough of, whose training waits for recorded calls or memory; said once.
    waiting: BTreeSet<ContainerIndex>,
    now_ns: Nanos,
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
            sharing: None,
            trainings: JoinSet::new(),
            replays: JoinSet::new(),
            started_ns: None,
            running: BTreeMap::new(),
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
                    .or_insert_with(|| Container::new(info.clone()))
                    .info = info.clone();
                None
            }
            Record::Process(process) => self.first_process(process),
            Record::Tick(tick) => {
                self.now_ns = tick.at_ns;
                self.started_ns.get_or_insert(tick.at_ns);
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
        let container = container.filter(|container| !container.held.is_open());
        if let Some(progress) = container.and_then(|container| container.phase.progress()) {
            progress.on_window(window);
        }
    }

    /// Once a second: starts trainings that are due and collects those that ended.
    pub fn on_tick(&mut self) -> Vec<Change> {
        let mut changes = self.take_answers();
        changes.extend(self.take_replays());
        self.note();
        while let Some(ended) = self.trainings.try_join_next() {
            if let Ok((container, result)) = ended {
                self.running.remove(&container);
                changes.extend(self.trained(container, result));
            }
        }
        let late = self.containers.values().any(|c| c.kept_late);
        if (late || !self.unkept.is_empty()) && self.now_ns >= self.keep_at_ns {
            self.keep();
        }
        for (index, container) in &mut self.containers {
            if container.has_waited(self.now_ns) {
                container.phase = Phase::learning(&self.settings);
                changes.push(Change::Learning {
                    container: *index,
                    meanwhile: None,
                });
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
        self.forget_earlier();
        changes
    }

    /// Name and progress of containers that are learning, with the model that is in force meanwhile.
    pub fn progress(&self) -> impl Iterator<Item = (&str, &Progress, Option<&str>)> {
        self.containers
            .values()
            .filter_map(|container| match &container.phase {
                Phase::Learning(progress) => {
                    let model = container.model.as_deref();
                    Some((container.info.name.as_str(), &**progress, model))
                }
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
            &container.info.name,
            &self.arch,
            &process.executable,
            &process.command_line,
        );
        let place = self.settings.place(&self.arch, &container.info, process);
        container.key = Some(key.clone());
        container.place = Some(place.clone());
        self.recall(index);
        let container = self.containers.get_mut(&index)?;
        if let Some(bundle) = container.keyless.take() {
            // It goes into force again, by the container's right name.
            return self.learned(index, bundle);
        }
        let stored = self.store.load(&key).unwrap_or_else(|error| {
            tracing::warn!(%error, "a stored bundle is not used; the container is learned anew");
            None
        });
        let stored = stored.filter(|bundle| bundle.card.arch == self.arch);
        let change = match stored {
            Some(bundle)
                if container.kept.accepted.relearning && !place.is_other_version(&bundle.card) =>
            {
                let id = bundle.id();
                container.phase = Phase::learning(&self.settings);
                container.model = Some(id.clone());
                Some(Change::Relearning {
                    container: index,
                    id,
                    bundle: Some(Arc::new(bundle)),
                })
            }
            Some(bundle) if !place.is_other_version(&bundle.card) => {
                let id = bundle.id();
                container.phase = Phase::Watching;
                container.model = Some(id.clone());
                Some(Change::watching(index, bundle, id, Source::StateDirectory))
            }
            older => {
                let begins = container.phase.is_new();
                if begins {
                    container.phase = Phase::learning(&self.settings);
                }
                let meanwhile = older.map(|bundle| {
                    let id = bundle.id();
                    Meanwhile::new(bundle, id)
                });
                container.model = meanwhile.as_ref().map(|older| older.id.clone());
                container.older = meanwhile.is_some();
                let accepted = !container.kept.accepted.is_empty();
                (begins || accepted || meanwhile.is_some()).then_some(Change::Learning {
                    container: index,
                    meanwhile,
                })
            }
        };
        self.resume(index);
        self.look(index);
        change
    }

    /// Starts a training, once enough is recorded.
    fn train(&mut self, index: ContainerIndex, ready: Ready) -> Option<Change> {
        let needed = self.settings.bounds.min_calls.max(1);
        let recording = self.notebook.flush().map(PathBuf::from);
        let container = self.containers.get_mut(&index)?;
        let recorded = self.notebook.calls(index) + container.earlier.calls;
        let (Some(recording), true) = (recording, recorded >= needed) else {
            if self.waiting.insert(index) {
                let container = &container.info.name;
                tracing::warn!(
                    container,
                    recorded,
                    needed,
                    "training waits for recorded calls"
                );
            }
            return None;
        };
        let memory = child::memory(self.settings.memory, headroom::left());
        let Some(memory) = memory else {
            if self.waiting.insert(index) {
                let container = &container.info.name;
                let needed = child::LEAST_MEMORY;
                tracing::warn!(container, needed, "training waits for memory");
            }
            return None;
        };
        self.waiting.remove(&index);
        container.training_ns = self.now_ns;
        let (calls, windows) = container.phase.start_training()?;
        let mut recordings = container.earlier.recordings.clone();
        recordings.push(recording);
        let training = Training {
            recordings,
            container: container.info.name.clone(),
            unseen_mass: ready.unseen_mass,
            widened: ready.widened,
            left_out: container.held.spans().to_vec(),
            time_limit: self.settings.time_limit,
            nice: self.settings.nice,
            memory,
        };
        let run = async move { (index, child::run(training).await) };
        self.running.insert(index, self.trainings.spawn(run));
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
            Bundle::read(&bytes, "the trained bundle").map_err(|error| error.to_string())
        });
        match loaded {
            Ok(bundle) => self.learned(index, bundle),
            Err(reason) => {
                container.phase.rest(self.now_ns + RETRY_NS);
                Some(Change::Failed {
                    container: index,
                    reason,
                })
            }
        }
    }

    /// Puts learned models in force, and keeps and shares them once their container is known by name.
    fn learned(&mut self, index: ContainerIndex, mut bundle: Bundle) -> Option<Change> {
        if self.has_to_be_proven(index) {
            return self.prove(index, bundle);
        }
        let container = self.containers.get_mut(&index)?;
        container.phase = Phase::Watching;
        container.older = false;
        let mut file = None;
        match (&container.key, &container.place) {
            (Some(key), Some(place)) => {
                place.stamp(&mut bundle.card);
                match bundle.write() {
                    Ok(bytes) => {
                        self.unkept.insert(key.clone(), Unkept::new(bytes.clone()));
                        file = Some(bytes);
                    }
                    Err(error) => tracing::warn!(%error, "learned models cannot be kept"),
                }
            }
            _ => container.keyless = Some(bundle.clone()),
        }
        let id = bundle.id();
        container.model = Some(id.clone());
        self.relearned(index);
        self.settle_in();
        if let Some(file) = file {
            self.offer(index, file);
        }
        Some(Change::watching(index, bundle, id, Source::Trained))
    }

    /// A container has its models.
    fn settle_in(&mut self) {
        // What nobody learns from any more may take the room that the bundle needs.
        if !self.is_learning() {
            self.notebook.close();
        }
        self.keep();
    }

    fn is_learning(&self) -> bool {
        self.containers
            .values()
            .any(|container| container.phase.is_learning())
    }
}

impl Drop for Learning {
    fn drop(&mut self) {
        if self.is_learning() {
            self.note();
            self.notebook.leave();
        } else {
            self.notebook.close();
        }
        self.keep();
    }
}
