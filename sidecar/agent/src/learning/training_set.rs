//! Recordings into what the trainer takes.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader},
    path::{Path, PathBuf},
};

use stethos_patterns::{
    Outcome, Token, Window,
    baseline::{Baseline, BaselineBuilder},
    names::{self, CallTable},
};
use thiserror::Error;

use crate::{
    capture::recording::{RecordingError, RecordingReader},
    record::{ContainerIndex, Header, LifecycleEvent, Record, Subject},
    windows::{Piece, Windows},
};

#[derive(Debug, Error)]
pub enum TrainingSetError {
    #[error("{path}: {source}")]
    Open { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Recording(#[from] RecordingError),
    #[error("recordings are of different architectures: {0} and {1}")]
    Architectures(String, String),
    #[error("no container has calls in these recordings")]
    Empty,
    #[error("container {wanted:?} is not in these recordings; they hold {found}")]
    NoSuchContainer { wanted: String, found: String },
    #[error("these recordings hold several containers ({0}); name one with --container")]
    SeveralContainers(String),
}

/// Everything normal that was seen of one container.
pub struct TrainingSet {
    pub container: String,
    pub arch: String,
    pub windows: Vec<Window>,
    pub baseline: Baseline,
}

/// Reads recordings, in order, and keeps `container` (or the only one there is). A recording that
/// is cut short counts up to its last whole block.
pub fn read(paths: &[PathBuf], container: Option<&str>) -> Result<TrainingSet, TrainingSetError> {
    let mut sets: BTreeMap<String, Collected> = BTreeMap::new();
    let mut arch: Option<String> = None;
    for path in paths {
        let header = add(path, &mut sets)?;
        match &arch {
            Some(arch) if *arch != header.arch => {
                return Err(TrainingSetError::Architectures(arch.clone(), header.arch));
            }
            _ => arch = Some(header.arch),
        }
    }
    sets.retain(|_, set| !set.windows.is_empty());
    let names = || sets.keys().cloned().collect::<Vec<_>>().join(", ");
    let name = match container {
        Some(wanted) if sets.contains_key(wanted) => wanted.to_owned(),
        Some(wanted) => {
            return Err(TrainingSetError::NoSuchContainer {
                wanted: wanted.to_owned(),
                found: names(),
            });
        }
        None if sets.len() > 1 => return Err(TrainingSetError::SeveralContainers(names())),
        None => sets.keys().next().cloned().ok_or(TrainingSetError::Empty)?,
    };
    let set = sets.remove(&name).ok_or(TrainingSetError::Empty)?;
    Ok(TrainingSet {
        container: name,
        arch: arch.unwrap_or_default(),
        windows: set.windows,
        baseline: set.baseline.finish(),
    })
}

#[derive(Default)]
struct Collected {
    windows: Vec<Window>,
    baseline: BaselineBuilder,
    first_ns: Option<u64>,
    last_ns: u64,
}

/// One recording on its way into the sets.
struct Pass<'a> {
    calls: &'static CallTable,
    names: BTreeMap<ContainerIndex, String>,
    sets: &'a mut BTreeMap<String, Collected>,
}

fn add(path: &Path, sets: &mut BTreeMap<String, Collected>) -> Result<Header, TrainingSetError> {
    let file = File::open(path).map_err(|source| TrainingSetError::Open {
        path: path.to_owned(),
        source,
    })?;
    let reader = RecordingReader::new(BufReader::new(file), path.display().to_string())?;
    let header = reader.header().clone();
    let mut windows = Windows::new(&header.arch);
    let mut pass = Pass {
        calls: names::table(&header.arch),
        names: BTreeMap::new(),
        sets,
    };
    let mut pieces = Vec::new();
    for record in reader {
        match record {
            Ok(record) => {
                pass.record(&record);
                windows.on_record(&record, &mut pieces);
                pieces.drain(..).for_each(|piece| pass.piece(piece));
            }
            Err(error) if error.is_truncated() => {
                tracing::debug!(%error, "the recording is used up to here");
                break;
            }
            Err(error) => return Err(error.into()),
        }
    }
    windows.finish(&mut pieces);
    pieces.drain(..).for_each(|piece| pass.piece(piece));
    pass.end();
    Ok(header)
}

impl Pass<'_> {
    fn set(&mut self, container: ContainerIndex) -> &mut Collected {
        let name = self
            .names
            .entry(container)
            .or_insert_with(|| format!("container-{container}"))
            .clone();
        self.sets.entry(name).or_default()
    }

    fn record(&mut self, record: &Record) {
        match record {
            Record::Container(info) => {
                self.names.insert(info.container, info.name.clone());
            }
            Record::Process(process) => {
                let set = self.set(process.container);
                if !process.executable.is_empty() {
                    set.baseline.executable(&process.executable);
                }
                process
                    .listens
                    .iter()
                    .for_each(|address| set.baseline.listen(address));
            }
            Record::Lifecycle(event) => {
                if let LifecycleEvent::Exec { executable } = &event.event {
                    self.set(event.container).baseline.executable(executable);
                }
            }
            Record::Detail(detail) => {
                let token = Token::new(detail.nr, detail.ret);
                let connect = self.calls.is_connect(detail.nr);
                let set = self.set(detail.container);
                match &detail.subject {
                    Subject::Peer(peer) if connect => set.baseline.connect(peer, detail.ret),
                    Subject::Path(path) if detail.ret >= 0 => set.baseline.opened(path),
                    _ => {}
                }
                if matches!(token.outcome, Outcome::Errno(_)) {
                    let (Subject::Path(subject) | Subject::Peer(subject)) = &detail.subject;
                    set.baseline.failure(token, subject);
                }
            }
            _ => {}
        }
    }

    fn piece(&mut self, piece: Piece) {
        match piece {
            Piece::Window(window) => {
                let set = self.set(window.container);
                set.first_ns.get_or_insert(window.start_ns());
                set.last_ns = set.last_ns.max(window.end_ns());
                set.baseline.window(&window);
                set.windows.push(window);
            }
            Piece::Exchange(container, exchange) => {
                self.set(container).baseline.exchange(&exchange);
            }
            Piece::Pending(..) => {}
        }
    }

    /// The recording ends: what it covered is normal time.
    fn end(self) {
        for set in self.sets.values_mut() {
            if let Some(first) = set.first_ns.take() {
                set.baseline
                    .observed_time(set.last_ns.saturating_sub(first));
                set.last_ns = 0;
            }
        }
    }
}
