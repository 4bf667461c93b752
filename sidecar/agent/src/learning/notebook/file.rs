//! The notebook's file: locked while its process lives, and whole after every write that failed.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Seek as _, SeekFrom, Write},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Names that are tried: two processes may have the same id where a folder is shared between PID
/// namespaces.
const NAMES: u32 = 64;

/// A file that takes what is written between two flushes as a whole or not at all. Its lock goes
/// with its process, however that ends.
#[derive(Debug)]
pub(super) struct NotebookFile {
    file: File,
    unwritten: Vec<u8>,
    length: Arc<AtomicU64>,
}

impl NotebookFile {
    /// Makes an empty file in `folder`.
    pub(super) fn create(folder: &Path) -> io::Result<(PathBuf, Self)> {
        let pid = std::process::id();
        for number in 0..NAMES {
            let path = match number {
                0 => folder.join(format!("learning-{pid}.rec")),
                _ => folder.join(format!("learning-{pid}-{number}.rec")),
            };
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)?;
            match file.try_lock() {
                // Another process may have taken it for a stale one meanwhile.
                Ok(()) if !is_at(&file, &path) => continue,
                Err(TryLockError::WouldBlock) => continue,
                // Where there are no locks, nothing is ever taken for stale.
                Ok(()) | Err(TryLockError::Error(_)) => {}
            }
            file.set_len(0)?;
            let file = Self {
                file,
                unwritten: Vec::new(),
                length: Arc::default(),
            };
            return Ok((path, file));
        }
        Err(io::ErrorKind::AlreadyExists.into())
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

fn is_at(file: &File, path: &Path) -> bool {
    let Ok((mine, there)) = file.metadata().and_then(|m| Ok((m, fs::metadata(path)?))) else {
        return false;
    };
    (mine.dev(), mine.ino()) == (there.dev(), there.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_gone_process_of_the_same_id_left_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let name = format!("learning-{}.rec", std::process::id());
        fs::write(folder.path().join(&name), "old").unwrap();
        let (path, mut file) = NotebookFile::create(folder.path()).unwrap();
        assert!(path.ends_with(name));
        file.write_all(b"n").unwrap();
        file.flush().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"n");
    }
}
