//! The notebook's file: whole after every write that failed.

use std::{
    fs::File,
    io::{self, Seek as _, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// A file that takes what is written between two flushes as a whole or not at all.
#[derive(Debug)]
pub(super) struct NotebookFile {
    file: File,
    unwritten: Vec<u8>,
    length: Arc<AtomicU64>,
}

impl NotebookFile {
    /// Makes an empty file in `folder`.
    pub(super) fn create(folder: &Path) -> io::Result<(PathBuf, Self)> {
        let path = folder.join(format!("learning-{}.rec", std::process::id()));
        let file = Self {
            file: File::create(&path)?,
            unwritten: Vec::new(),
            length: Arc::default(),
        };
        Ok((path, file))
    }

    /// Bytes on disk, as they change.
    pub(super) fn length(&self) -> Arc<AtomicU64> {
        self.length.clone()
    }
}

impl Write for NotebookFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.unwritten.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    /// After an error the file is as it was after the flush before.
    fn flush(&mut self) -> io::Result<()> {
        let length = self.length.load(Relaxed);
        let written = self
            .file
            .seek(SeekFrom::Start(length))
            .and_then(|_| self.file.write_all(&self.unwritten));
        let unwritten = self.unwritten.len() as u64;
        self.unwritten.clear();
        match written {
            Ok(()) => self.length.store(length + unwritten, Relaxed),
            Err(error) => {
                self.file.set_len(length)?;
                return Err(error);
            }
        }
        Ok(())
    }
}
