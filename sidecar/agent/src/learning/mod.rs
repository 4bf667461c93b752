//! Learning what is normal, with nobody tuning: when a container has been seen enough, the child
//! process that trains its models, and the bundles that it leaves.
//!
//! | module | holds |
//! | --- | --- |
//! | [`progress`] | when learning ends (pure) |
//! | [`notebook`] | the recording that learning containers are trained from |
//! | [`training_set`] | recordings into what the trainer takes |
//! | [`child`] | the training process: low priority, bounded, killable |
//! | [`store`] | bundles on disk |

pub mod child;
pub mod notebook;
pub mod progress;
pub mod store;
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

struct Container {
    name: String,
    /// Known once a process of the container was seen.
    key: Option<Key>,
    phase: Phase,
}

enum Phase {
    /// No process was seen yet.
    New,
    Learning(Box<Progress>),
    /// A training runs, or failed and is tried again at `until_ns`.
    Training {
        progress: Box<Progress>,
        until_ns: Option<Nanos>,
    },
    Watching,
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
                    .or_insert_with(|| Container {
                        name: info.name.clone(),
                        key: None,
                        phase: Phase::New,
                    });
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
                changes.push(self.trained(container, result));
            }
        }
        if !self.unkept.is_empty() && self.now_ns >= self.keep_at_ns {
            self.keep();
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
        if !matches!(container.phase, Phase::New) {
            return None;
        }
        let key = Key::new(
            &container.name,
            &self.arch,
            &process.executable,
            &process.command_line,
        );
        container.key = Some(key.clone());
        let stored = self.store.load(&key).unwrap_or_else(|error| {
            tracing::warn!(%error, "a stored bundle is not used; the container is learned anew");
            None
        });
        match stored {
            Some(bundle) if bundle.card.arch == self.arch => {
                container.phase = Phase::Watching;
                let id = bundle.id();
                let bundle = Arc::new(bundle);
                Some(Change::Watching {
                    container: index,
                    bundle,
                    id,
                    from_store: true,
                })
            }
            _ => {
                container.phase = Phase::learning(&self.settings);
                Some(Change::Learning { container: index })
            }
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

    fn trained(&mut self, index: ContainerIndex, result: Result<Vec<u8>, TrainingError>) -> Change {
        let failed = |reason| Change::Failed {
            container: index,
            reason,
        };
        let Some(container) = self.containers.get_mut(&index) else {
            return failed("container is gone".to_owned());
        };
        let loaded = result.map_err(|error| error.to_string()).and_then(|bytes| {
            let bundle = Bundle::read(&bytes, "the trained bundle");
            Ok((bundle.map_err(|error| error.to_string())?, bytes))
        });
        let (bundle, bytes) = match loaded {
            Ok(loaded) => loaded,
            Err(reason) => {
                container.phase.rest(self.now_ns + RETRY_NS);
                return failed(reason);
            }
        };
        container.phase = Phase::Watching;
        if let Some(key) = container.key.clone() {
            let unkept = Unkept {
                bundle: bytes,
                told: false,
            };
            self.unkept.insert(key, unkept);
        }
        // What nobody learns from any more may take the room that the bundle needs.
        if !self.is_learning() {
            self.notebook.close();
        }
        self.keep();
        Change::Watching {
            container: index,
            id: bundle.id(),
            bundle: Arc::new(bundle),
            from_store: false,
        }
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

impl Drop for Learning {
    fn drop(&mut self) {
        self.notebook.close();
        self.keep();
    }
}

impl Phase {
    fn learning(settings: &Settings) -> Self {
        Phase::Learning(Box::new(Progress::new(settings.bounds)))
    }

    /// True while what a container does is still wanted for its training.
    fn is_learning(&self) -> bool {
        !matches!(self, Phase::Watching)
    }

    fn progress(&mut self) -> Option<&mut Progress> {
        match self {
            Phase::Learning(progress) | Phase::Training { progress, .. } => Some(progress),
            Phase::New | Phase::Watching => None,
        }
    }

    /// Calls and windows seen until now; none when nothing is learned.
    fn start_training(&mut self) -> Option<(u64, u64)> {
        let progress = match std::mem::replace(self, Phase::Watching) {
            Phase::Learning(progress) | Phase::Training { progress, .. } => progress,
            other => {
                *self = other;
                return None;
            }
        };
        let seen = (progress.calls(), progress.windows());
        *self = Phase::Training {
            progress,
            until_ns: None,
        };
        Some(seen)
    }

    /// The training failed: what was learned stays.
    fn rest(&mut self, until: Nanos) {
        if let Phase::Training { until_ns, .. } = self {
            *until_ns = Some(until);
        }
    }
}

impl Container {
    /// Whether the container has been seen enough now.
    fn due(&mut self, now_ns: Nanos) -> Option<Ready> {
        match &mut self.phase {
            Phase::Learning(progress) => progress.on_tick(now_ns),
            Phase::Training { progress, until_ns } => {
                let ready = progress.on_tick(now_ns);
                ready.filter(|_| until_ns.is_some_and(|until_ns| until_ns <= now_ns))
            }
            Phase::New | Phase::Watching => None,
        }
    }
}
