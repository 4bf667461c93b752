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
    usage::{Usage, UsageBuilder},
};
use thiserror::Error;

use super::held;
use crate::{
    capture::recording::{RecordingError, RecordingReader},
    record::{
        ContainerIndex, Direction, Header, HttpMessage, LifecycleEvent, Nanos, NetworkState,
        Record, Subject,
    },
    resources::Meter,
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
    pub usage: Usage,
}

/// Reads recordings, in order, and keeps `container` (or the only one there is). A recording that
/// is cut short counts up to its last whole block.
pub fn read(paths: &[PathBuf], container: Option<&str>) -> Result<TrainingSet, TrainingSetError> {
    read_selected(paths, container, Selection::default())
}

/// What is kept of recordings.
#[derive(Clone, Copy, Debug)]
pub struct Selection<'a> {
    /// Calls in the windows that are kept at most ([`calls_in`]).
    pub max_calls: usize,
    /// Spans of time that are left out, in ns of the recordings' clock.
    pub left_out: &'a [(Nanos, Nanos)],
}

impl Default for Selection<'_> {
    fn default() -> Self {
        Selection {
            max_calls: MAX_CALLS,
            left_out: &[],
        }
    }
}

/// The same, of which less is kept.
pub fn read_selected(
    paths: &[PathBuf],
    container: Option<&str>,
    selection: Selection<'_>,
) -> Result<TrainingSet, TrainingSetError> {
    let mut sets: BTreeMap<String, Collected> = BTreeMap::new();
    let mut arch: Option<String> = None;
    for path in paths {
        let header = add(path, &mut sets, selection)?;
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
    let arch = arch.unwrap_or_default();
    let Finished {
        windows,
        baseline,
        usage,
    } = set.finish();
    Ok(TrainingSet {
        container: name,
        arch,
        windows,
        usage: usage.finish(baseline.executables()),
        baseline,
    })
}

/// Calls in the windows that are kept of a container: so many say all that there is to learn, and the
/// memory of a training stays bounded.
const MAX_CALLS: usize = 600_000;
const MIN_CALLS: usize = 50_000;
/// Bytes that a training takes whatever it learns from, and for each call that is kept.
const BYTES: u64 = 60 << 20;
const BYTES_A_CALL: u64 = 128;
/// What is kept of more calls are whole spans of time, all of this length.
const SPAN_NS: u64 = 250_000_000;

/// Calls that a training with so many bytes of memory can keep.
pub fn calls_in(memory: u64) -> usize {
    let calls = memory.saturating_sub(BYTES) / BYTES_A_CALL;
    usize::try_from(calls)
        .unwrap_or(MAX_CALLS)
        .clamp(MIN_CALLS, MAX_CALLS)
}

struct Collected {
    max_calls: usize,
    usage: UsageBuilder,
    windows: Vec<Window>,
    /// In these windows.
    calls: usize,
    /// One span of time in `2^thinned` is kept.
    thinned: u32,
    baseline: BaselineBuilder,
    first_ns: Option<u64>,
    last_ns: u64,
    /// Of what was collected under another name.
    earlier: Option<Baseline>,
}

struct Finished {
    windows: Vec<Window>,
    baseline: Baseline,
    usage: UsageBuilder,
}

impl Collected {
    fn new(calls: &'static CallTable, max_calls: usize) -> Self {
        Collected {
            max_calls,
            usage: UsageBuilder::new(calls),
            windows: Vec::new(),
            calls: 0,
            thinned: 0,
            baseline: BaselineBuilder::default(),
            first_ns: None,
            last_ns: 0,
            earlier: None,
        }
    }

    fn finish(self) -> Finished {
        let mut baseline = self.baseline.finish();
        self.earlier
            .iter()
            .for_each(|earlier| baseline.merge(earlier));
        Finished {
            windows: self.windows,
            baseline,
            usage: self.usage,
        }
    }

    fn keep(&mut self, window: Window) {
        if !self.is_kept(&window) {
            return;
        }
        self.calls += window.calls.len();
        self.windows.push(window);
        if self.calls > self.max_calls {
            self.thinned += 1;
            let mut windows = std::mem::take(&mut self.windows);
            windows.retain(|window| self.is_kept(window));
            self.calls = windows.iter().map(|window| window.calls.len()).sum();
            self.windows = windows;
        }
    }

    fn is_kept(&self, window: &Window) -> bool {
        // By chance, so that what happens at every full second is neither always nor never kept.
        let span = (window.start_ns() / SPAN_NS).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        span.leading_zeros() >= self.thinned
    }

    /// Takes in what was collected of the same container before its name was known.
    fn absorb(&mut self, earlier: Collected) {
        self.first_ns = self.first_ns.into_iter().chain(earlier.first_ns).min();
        self.last_ns = self.last_ns.max(earlier.last_ns);
        let Finished {
            windows,
            mut baseline,
            usage,
        } = earlier.finish();
        self.usage.merge(usage);
        windows.into_iter().for_each(|window| self.keep(window));
        self.earlier.iter().for_each(|more| baseline.merge(more));
        self.earlier = Some(baseline);
    }
}

/// One recording on its way into the sets.
struct Pass<'a> {
    calls: &'static CallTable,
    selection: Selection<'a>,
    names: BTreeMap<ContainerIndex, String>,
    /// As last told.
    network: Option<NetworkState>,
    meter: Meter,
    sets: &'a mut BTreeMap<String, Collected>,
}

/// Takes what is in a recording.
pub(super) trait Sink {
    fn record(&mut self, record: &Record);
    fn piece(&mut self, piece: Piece);
}

pub(super) fn open(path: &Path) -> Result<RecordingReader<BufReader<File>>, TrainingSetError> {
    let file = File::open(path).map_err(|source| TrainingSetError::Open {
        path: path.to_owned(),
        source,
    })?;
    let name = path.display().to_string();
    Ok(RecordingReader::new(BufReader::new(file), name)?)
}

/// Hands on everything in a recording, up to its last whole block.
pub(super) fn pass_on(
    reader: RecordingReader<BufReader<File>>,
    sink: &mut impl Sink,
) -> Result<(), TrainingSetError> {
    let mut windows = Windows::new(&reader.header().arch);
    let mut pieces = Vec::new();
    for record in reader {
        match record {
            Ok(record) => {
                sink.record(&record);
                windows.on_record(&record, &mut pieces);
                pieces.drain(..).for_each(|piece| sink.piece(piece));
            }
            Err(error) if error.is_truncated() => {
                tracing::debug!(%error, "the recording is used up to here");
                break;
            }
            Err(error) => return Err(error.into()),
        }
    }
    windows.finish(&mut pieces);
    pieces.drain(..).for_each(|piece| sink.piece(piece));
    Ok(())
}

fn add(
    path: &Path,
    sets: &mut BTreeMap<String, Collected>,
    selection: Selection<'_>,
) -> Result<Header, TrainingSetError> {
    let reader = open(path)?;
    let header = reader.header().clone();
    let mut pass = Pass {
        calls: names::table(&header.arch),
        selection,
        names: BTreeMap::new(),
        network: None,
        meter: Meter::default(),
        sets,
    };
    pass_on(reader, &mut pass)?;
    pass.end();
    Ok(header)
}

impl Sink for Pass<'_> {
    fn record(&mut self, record: &Record) {
        match record {
            Record::Container(info) => {
                let before = self.names.insert(info.container, info.name.clone());
                let renamed = before.filter(|before| *before != info.name);
                if let Some(earlier) = renamed.and_then(|before| self.sets.remove(&before)) {
                    self.set(info.container).absorb(earlier);
                }
            }
            Record::Process(process) if !self.is_left_out(process.at_ns, process.at_ns) => {
                let set = self.set(process.container);
                if !process.executable.is_empty() {
                    set.baseline.executable(&process.executable);
                }
                process
                    .listens
                    .iter()
                    .for_each(|address| set.baseline.listen(address));
            }
            Record::Lifecycle(event) if !self.is_left_out(event.at_ns, event.at_ns) => {
                if let LifecycleEvent::Exec { executable } = &event.event {
                    self.set(event.container).baseline.executable(executable);
                }
            }
            Record::Http(head) if !self.is_left_out(head.at_ns, head.at_ns) => {
                if let HttpMessage::Request { .. } = &head.message {
                    let came_in = head.direction == Direction::Incoming;
                    self.set(head.container).usage.http_request(came_in);
                }
            }
            Record::Detail(detail) if !self.is_left_out(detail.at_ns, detail.at_ns) => {
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
            // Containers of a pod share their network.
            Record::Network(state) => {
                let before = self.network.replace(state.clone());
                let before = before.filter(|before| !self.is_left_out(before.at_ns, state.at_ns));
                if let Some(counted) = before.and_then(|before| state.since(&before)) {
                    for name in self.names.values() {
                        if let Some(set) = self.sets.get_mut(name) {
                            set.baseline.segments(counted.sent, counted.again());
                        }
                    }
                }
            }
            Record::Resources(look) => {
                let used = self.meter.used(look);
                if let Some(used) = used.filter(|u| !self.is_left_out(u.from_ns, u.to_ns)) {
                    self.set(look.container).baseline.used(&used);
                }
            }
            _ => {}
        }
    }

    fn piece(&mut self, piece: Piece) {
        match piece {
            Piece::Window(window) if self.is_left_out(window.start_ns(), window.end_ns()) => {}
            Piece::Exchange(_, exchange)
                if self.is_left_out(exchange.sent_ns, exchange.received_ns) => {}
            Piece::Window(window) => {
                let set = self.set(window.container);
                set.first_ns.get_or_insert(window.start_ns());
                set.last_ns = set.last_ns.max(window.end_ns());
                set.baseline.window(&window);
                set.usage.window(&window);
                set.keep(window);
            }
            Piece::Exchange(container, exchange) => {
                self.set(container).baseline.exchange(&exchange);
            }
            Piece::Pending(..) => {}
        }
    }
}

impl Pass<'_> {
    fn set(&mut self, container: ContainerIndex) -> &mut Collected {
        let name = self
            .names
            .entry(container)
            .or_insert_with(|| format!("container-{container}"))
            .clone();
        let new = || Collected::new(self.calls, self.selection.max_calls);
        self.sets.entry(name).or_insert_with(new)
    }

    fn is_left_out(&self, from: Nanos, to: Nanos) -> bool {
        held::overlaps(self.selection.left_out, from, to)
    }

    /// The recording ends: what it covered is normal time, but for what was left out.
    fn end(self) {
        for set in self.sets.values_mut() {
            if let Some(first) = set.first_ns.take() {
                let last = set.last_ns;
                let without = self.selection.left_out.iter().map(|(from, to)| {
                    let (from, to) = ((*from).max(first), (*to).min(last));
                    to.saturating_sub(from)
                });
                let without = without.sum();
                set.baseline
                    .observed_time(last.saturating_sub(first).saturating_sub(without));
                set.last_ns = 0;
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
