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

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

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

/// A training that failed is tried again after this long.
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
    trainings: JoinSet<(ContainerIndex, Result<PathBuf, TrainingError>)>,
    now_ns: Nanos,
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
    Training,
    Watching,
    /// Training failed; learning goes on at this time.
    Resting {
        until_ns: Nanos,
    },
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
        let learning = self
            .containers
            .values()
            .any(|container| container.phase.is_learning());
        self.notebook.take(record, learning);
        change
    }

    pub fn on_window(&mut self, window: &Window) {
        if let Some(container) = self.containers.get_mut(&window.container)
            && let Phase::Learning(progress) = &mut container.phase
        {
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
        let due: Vec<_> = self
            .containers
            .iter_mut()
            .filter_map(|(index, container)| {
                let (ready, calls, windows) = container.due(self.now_ns, &self.settings)?;
                Some((*index, ready, calls, windows))
            })
            .collect();
        for (container, ready, calls, windows) in due {
            changes.push(self.train(container, ready, calls, windows));
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

    fn train(&mut self, index: ContainerIndex, ready: Ready, calls: u64, windows: u64) -> Change {
        let fail = |container: &mut Container, now_ns: Nanos, reason: String| {
            container.phase = Phase::Resting {
                until_ns: now_ns + RETRY_NS,
            };
            Change::Failed {
                container: index,
                reason,
            }
        };
        let recording = self.notebook.flush();
        let now_ns = self.now_ns;
        let Some(container) = self.containers.get_mut(&index) else {
            return Change::Failed {
                container: index,
                reason: "container is gone".to_owned(),
            };
        };
        let (Some(key), Ok(recording)) = (&container.key, &recording) else {
            let reason = recording.err().map_or_else(
                || "the container has no process".to_owned(),
                |error| error.to_string(),
            );
            return fail(container, now_ns, reason);
        };
        let training = Training {
            recording: recording.clone(),
            container: container.name.clone(),
            bundle: self.store.path(key),
            unseen_mass: ready.unseen_mass,
            widened: ready.widened,
            time_limit: self.settings.time_limit,
            nice: self.settings.nice,
            memory: self.settings.memory,
        };
        container.phase = Phase::Training;
        self.trainings
            .spawn(async move { (index, child::run(training).await) });
        Change::Training {
            container: index,
            ready,
            calls,
            windows,
        }
    }

    fn trained(&mut self, index: ContainerIndex, result: Result<PathBuf, TrainingError>) -> Change {
        let now_ns = self.now_ns;
        let loaded = result.map_err(|error| error.to_string()).and_then(|_| {
            let key = self
                .containers
                .get(&index)
                .and_then(|container| container.key.as_ref());
            let key = key.ok_or_else(|| "container is gone".to_owned())?;
            let bundle = self.store.load(key).map_err(|error| error.to_string())?;
            bundle.ok_or_else(|| "the training left no bundle".to_owned())
        });
        let phase = match &loaded {
            Ok(_) => Phase::Watching,
            Err(_) => Phase::Resting {
                until_ns: now_ns + RETRY_NS,
            },
        };
        if let Some(container) = self.containers.get_mut(&index) {
            container.phase = phase;
        }
        match loaded {
            Ok(bundle) => Change::Watching {
                container: index,
                id: bundle.id(),
                bundle: Arc::new(bundle),
                from_store: false,
            },
            Err(reason) => Change::Failed {
                container: index,
                reason,
            },
        }
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
}

impl Container {
    /// Whether the container has been seen enough now.
    fn due(&mut self, now_ns: Nanos, settings: &Settings) -> Option<(Ready, u64, u64)> {
        match &mut self.phase {
            Phase::Learning(progress) => {
                let ready = progress.on_tick(now_ns)?;
                Some((ready, progress.calls(), progress.windows()))
            }
            Phase::Resting { until_ns } if *until_ns <= now_ns => {
                self.phase = Phase::learning(settings);
                None
            }
            _ => None,
        }
    }
}
