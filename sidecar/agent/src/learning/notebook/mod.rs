//! The recording that learning containers are trained from: everything since learning began, on
//! disk, bounded, gone when nobody learns any more.
//!
//! What cannot be written (the disk is full) is missing from it: up to there it is whole, and it
//! goes on once there is room. Threads of which calls are missing are marked, so that nothing is
//! learned across the gap.
//!
//! A process that ends while somebody learns leaves it, with what it is about beside it. The next one
//! takes it over: the containers that it is about are learned from both.

mod about;
mod earlier;
mod file;

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

pub use self::about::{About, Learner};
use self::{earlier::Earlier, file::NotebookFile};
use crate::{
    capture::recording::{RecordingWriter, WriteError},
    record::{CallWindow, ContainerIndex, Header, Nanos, Record},
    sequential::SECOND,
};

/// Bytes on disk at most; later records are left out, which is said once.
const MAX_BYTES: u64 = 256 << 20;
/// What was gathered is written at least this often.
const FLUSH_NS: Nanos = 5 * SECOND;
/// Facts (containers, processes, descriptors) remembered for a notebook that begins later.
const MAX_FACTS: usize = 4096;
/// Threads remembered as marked; further ones are marked again and again.
const MAX_MARKED: usize = 16_384;

pub struct Notebook {
    folder: PathBuf,
    header: Header,
    facts: Vec<Record>,
    /// Those among `facts` that are on disk: the first so many.
    facts_written: usize,
    recording: Option<Recording>,
    /// Writing failed the last time; said once.
    failing: bool,
    /// What other processes left, in the order of their writing.
    earlier: Vec<Earlier>,
    about: About,
    /// It is on disk as it is.
    about_written: bool,
    flushed_ns: Nanos,
}

/// The recording being written.
struct Recording {
    path: PathBuf,
    writer: RecordingWriter<NotebookFile>,
    /// Bytes on disk, and how many there were when they were last looked at.
    length: Arc<AtomicU64>,
    looked_at: u64,
    full: bool,
    calls: BTreeMap<ContainerIndex, Calls>,
    /// Facts that are not on disk come before the next record.
    owes_facts: bool,
    /// Threads marked since records were lost; none while nothing was.
    marked: Option<HashSet<u32>>,
}

/// Calls of one container.
#[derive(Clone, Copy, Default)]
struct Calls {
    written: u64,
    gathered: u64,
}

impl Notebook {
    /// Takes over what other processes left in the state directory.
    pub fn new(state_dir: &Path, header: &Header) -> Self {
        Self {
            earlier: earlier::take_over(state_dir),
            about: About::default(),
            about_written: false,
            flushed_ns: 0,
            folder: state_dir.to_owned(),
            header: header.clone(),
            facts: Vec::new(),
            facts_written: 0,
            recording: None,
            failing: false,
        }
    }

    /// Takes a record while anybody learns; ends the recording when nobody does. Those of other processes
    /// stay until [`Notebook::close`].
    pub fn take(&mut self, record: &Record, learning: bool) {
        if !learning {
            self.end();
        } else if self.recording.is_some() {
            self.write(record);
        } else if !self.failing || matches!(record, Record::Tick(_)) {
            self.open();
            self.write(record);
        }
        let fact = matches!(
            record,
            Record::Container(_) | Record::Process(_) | Record::Descriptor(_)
        );
        if fact && self.facts.len() < MAX_FACTS {
            self.facts.push(record.clone());
        }
        if let Record::Tick(tick) = record
            && tick.at_ns.saturating_sub(self.flushed_ns) >= FLUSH_NS
        {
            self.flushed_ns = tick.at_ns;
            self.flush();
            self.write_about();
        }
    }

    /// What it is about from now on.
    pub fn set_about(&mut self, containers: BTreeMap<String, Learner>) {
        if self.about.containers != containers {
            self.about = About::new(containers);
            self.about_written = false;
            self.write_about();
        }
    }

    /// The recordings of other processes that hold what a container did while it was learned there, and
    /// what they say of it.
    pub fn earlier(&self, name: &str, key: &str, image: Option<&str>) -> Vec<(PathBuf, Learner)> {
        let of = |one: &Earlier| {
            let learner = one.learner(name, key, image)?;
            Some((one.path.clone(), learner.clone()))
        };
        self.earlier.iter().filter_map(of).collect()
    }

    /// The recording so far, complete up to the last record that could be written; none when
    /// there is none.
    pub fn flush(&mut self) -> Option<&Path> {
        let flushed = self.recording.as_mut()?.writer.flush();
        self.look(flushed);
        self.recording
            .as_ref()
            .map(|recording| recording.path.as_path())
    }

    /// Calls of a container that are in the recording.
    pub fn calls(&self, container: ContainerIndex) -> u64 {
        let recording = self.recording.as_ref();
        recording
            .and_then(|recording| recording.calls.get(&container))
            .map_or(0, |calls| calls.written)
    }

    /// Ends the recording and removes it, and those of other processes.
    pub fn close(&mut self) {
        self.end();
        self.earlier.drain(..).for_each(|one| one.remove());
    }

    fn end(&mut self) {
        if let Some(recording) = self.recording.take() {
            earlier::remove(&recording.path);
        }
        self.facts_written = 0;
        self.about_written = false;
    }

    /// Ends the recording and leaves it to the next process.
    pub fn leave(&mut self) {
        self.flush();
        self.write_about();
        if self.about_written {
            self.recording = None;
            self.earlier.clear();
        } else {
            self.close();
        }
    }

    /// Removes a recording of another process that cannot be read.
    pub fn discard(&mut self, path: &Path) {
        self.earlier.retain(|one| {
            if one.path == path {
                one.remove();
            }
            one.path != path
        });
    }

    /// Whether recordings of other processes are held.
    pub fn has_earlier(&self) -> bool {
        !self.earlier.is_empty()
    }

    /// Says beside the recording what it is about, unless that is said; tried again with the next flush.
    fn write_about(&mut self) {
        if let Some(recording) = &self.recording
            && !self.about_written
            && !self.about.containers.is_empty()
        {
            let written = self.about.write(&recording.path);
            self.about_written = written.is_ok();
            if let Err(error) = written {
                tracing::debug!(%error, "a process that comes after this one learns anew");
            }
        }
    }

    fn open(&mut self) {
        let opened = NotebookFile::create(&self.folder)
            .map_err(WriteError::from)
            .and_then(|(path, file)| {
                let length = file.length();
                match RecordingWriter::new(file, &self.header) {
                    Ok(writer) => Ok((path, length, writer)),
                    Err(error) => {
                        earlier::remove(&path);
                        Err(error)
                    }
                }
            });
        match opened {
            Ok((path, length, writer)) => {
                self.recording = Some(Recording {
                    path,
                    writer,
                    looked_at: length.load(Relaxed),
                    length,
                    full: false,
                    calls: BTreeMap::new(),
                    owes_facts: true,
                    marked: None,
                });
                self.facts_written = 0;
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Writes a record; while writing fails it is tried again once a second.
    fn write(&mut self, record: &Record) {
        let tick = matches!(record, Record::Tick(_));
        let Some(recording) = &mut self.recording else {
            return;
        };
        if recording.full || (self.failing && !tick) {
            return;
        }
        let owed = match std::mem::take(&mut recording.owes_facts) {
            true => &self.facts[self.facts_written..],
            false => &[],
        };
        let mut written = owed
            .iter()
            .chain([record])
            .try_for_each(|record| recording.write(record));
        if self.failing {
            written = written.and_then(|()| recording.writer.flush());
        }
        let earlier: u64 = self.earlier.iter().map(|one| one.bytes).sum();
        if tick && recording.length.load(Relaxed) + earlier > MAX_BYTES {
            tracing::warn!(path = %recording.path.display(), "enough recorded for learning");
            recording.full = true;
        }
        self.look(written);
    }

    /// Sees what became of the records gathered so far.
    fn look(&mut self, written: Result<(), WriteError>) {
        let Some(recording) = &mut self.recording else {
            return;
        };
        match written {
            Ok(()) if recording.has_grown() => {
                self.facts_written = self.facts.len();
                if self.failing {
                    let path = recording.path.display();
                    tracing::info!(%path, "recording for learning goes on");
                    self.failing = false;
                }
            }
            Ok(()) => {}
            Err(error) => {
                recording.lose();
                self.fail(&error);
            }
        }
    }

    fn fail(&mut self, error: &WriteError) {
        if !self.failing {
            tracing::error!(
                %error,
                state_dir = %self.folder.display(),
                "learning keeps what is recorded, and records on when it can be written"
            );
        }
        self.failing = true;
    }
}

impl Recording {
    fn write(&mut self, record: &Record) -> Result<(), WriteError> {
        let mut marked = None;
        if let Record::Window(window) = record {
            self.calls.entry(window.container).or_default().gathered += window.calls.len() as u64;
            marked = self.mark(window).map(Record::Window);
        }
        match self.writer.write(marked.as_ref().unwrap_or(record)) {
            Err(error @ WriteError::RecordTooLarge { .. }) => {
                tracing::warn!(%error, "a record is missing from learning");
                Ok(())
            }
            written => written,
        }
    }

    /// The first window of a thread after records were lost says so.
    fn mark(&mut self, window: &CallWindow) -> Option<CallWindow> {
        let marked = self.marked.as_mut()?;
        if marked.contains(&window.tid) {
            return None;
        }
        if marked.len() < MAX_MARKED {
            marked.insert(window.tid);
        }
        Some(CallWindow {
            lost_before: window.lost_before.max(1),
            ..window.clone()
        })
    }

    /// Whether what was gathered has been written since this was last asked.
    fn has_grown(&mut self) -> bool {
        let length = self.length.load(Relaxed);
        let grown = length > self.looked_at;
        self.looked_at = length;
        if grown {
            for calls in self.calls.values_mut() {
                calls.written += std::mem::take(&mut calls.gathered);
            }
        }
        grown
    }

    /// What was gathered could not be written.
    fn lose(&mut self) {
        self.calls.values_mut().for_each(|calls| calls.gathered = 0);
        self.owes_facts = true;
        self.marked = Some(HashSet::new());
    }
}

impl Drop for Notebook {
    fn drop(&mut self) {
        self.close();
    }
}
