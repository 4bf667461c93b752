//! The recording that learning containers are trained from: everything since learning began, on
//! disk, bounded, gone when nobody learns any more.

use std::{
    fs::File,
    io::{self, BufWriter},
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::{
    capture::recording::{RecordingWriter, WriteError},
    record::{Header, Record},
};

/// Bytes on disk at most; later records are left out, which is said once.
const MAX_BYTES: u64 = 256 << 20;
/// Facts (containers, processes, descriptors) remembered for a notebook that begins later.
const MAX_FACTS: usize = 4096;

#[derive(Debug, Error)]
pub enum NotebookError {
    #[error("{path}: {source}")]
    Write { path: PathBuf, source: WriteError },
    #[error("nothing was recorded")]
    Empty,
}

pub struct Notebook {
    path: PathBuf,
    header: Header,
    facts: Vec<Record>,
    writer: Option<RecordingWriter<BufWriter<File>>>,
    full: bool,
}

impl Notebook {
    pub fn new(state_dir: &Path, header: &Header) -> Self {
        Self {
            path: state_dir.join(format!("learning-{}.rec", std::process::id())),
            header: header.clone(),
            facts: Vec::new(),
            writer: None,
            full: false,
        }
    }

    /// Takes a record while anybody learns; ends the recording when nobody does.
    pub fn take(&mut self, record: &Record, learning: bool) {
        let fact = matches!(
            record,
            Record::Container(_) | Record::Process(_) | Record::Descriptor(_)
        );
        if fact && self.facts.len() < MAX_FACTS {
            self.facts.push(record.clone());
        }
        if !learning {
            self.close();
        } else if self.writer.is_none() {
            // Starts with the facts, of which `record` may be one.
            if let Err(error) = self.open() {
                tracing::error!(%error, path = %self.path.display(), "cannot record for learning");
            }
            if !fact {
                self.write(record);
            }
        } else {
            self.write(record);
        }
    }

    /// The recording so far, complete up to the last record.
    pub fn flush(&mut self) -> Result<PathBuf, NotebookError> {
        let writer = self.writer.as_mut().ok_or(NotebookError::Empty)?;
        writer.flush().map_err(|source| NotebookError::Write {
            path: self.path.clone(),
            source,
        })?;
        Ok(self.path.clone())
    }

    fn open(&mut self) -> Result<(), WriteError> {
        let file = File::create(&self.path).map_err(WriteError::from)?;
        self.writer = Some(RecordingWriter::new(BufWriter::new(file), &self.header)?);
        self.full = false;
        for fact in std::mem::take(&mut self.facts) {
            self.write(&fact);
            self.facts.push(fact);
        }
        Ok(())
    }

    fn write(&mut self, record: &Record) {
        let Some(writer) = &mut self.writer else {
            return;
        };
        if self.full {
            return;
        }
        match writer.write(record) {
            Ok(()) => {}
            Err(error @ WriteError::RecordTooLarge { .. }) => {
                tracing::warn!(%error, "a record is missing from learning");
            }
            Err(error) => {
                let path = self.path.display();
                tracing::error!(%error, %path, "learning goes on with what was recorded so far");
                self.full = true;
                return;
            }
        }
        let size = std::fs::metadata(&self.path).map_or(0, |file| file.len());
        if matches!(record, Record::Tick(_)) && size > MAX_BYTES {
            tracing::warn!(path = %self.path.display(), "enough recorded for learning");
            self.full = true;
        }
    }

    fn close(&mut self) {
        if self.writer.take().is_some()
            && let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove");
        }
    }
}

impl Drop for Notebook {
    fn drop(&mut self) {
        self.close();
    }
}
