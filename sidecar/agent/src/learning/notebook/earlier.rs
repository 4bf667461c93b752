//! Notebooks of processes that ended while they learned.

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::about::{About, Learner};

/// Notebooks gone on with, the latest ones, and bytes of all of them.
const MOST: usize = 8;
const MAX_BYTES: u64 = super::MAX_BYTES / 2;

/// A notebook that this process holds now.
#[derive(Debug)]
pub(super) struct Earlier {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    about: About,
    modified: SystemTime,
    /// Keeps it locked.
    _file: File,
}

impl Earlier {
    /// What it says of a container of that name, key and image.
    pub(super) fn learner(
        &self,
        container: &str,
        key: &str,
        image: Option<&str>,
    ) -> Option<&Learner> {
        let learner = self.about.containers.get(container)?;
        (learner.key == key && learner.image.as_deref() == image).then_some(learner)
    }

    pub(super) fn remove(&self) {
        remove(&self.path);
    }
}

/// Takes over the notebooks in `folder` that nobody holds, in the order of their writing. What cannot be
/// gone on with is removed.
pub(super) fn take_over(folder: &Path) -> Vec<Earlier> {
    let mut earlier: Vec<Earlier> = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with("learning-")) else {
            continue;
        };
        let path = entry.path();
        if name.ends_with(".rec") {
            earlier.extend(hold(path));
        } else if name.ends_with(".json") && !path.with_extension("rec").exists() {
            let _ = fs::remove_file(&path);
        }
    }
    earlier.sort_by_key(|one| (one.modified, one.path.clone()));
    let mut bytes = 0;
    let mut kept = 0;
    let from = earlier.iter().rposition(|one| {
        bytes += one.bytes;
        kept += 1;
        kept > MOST || bytes > MAX_BYTES
    });
    for left in earlier.drain(..from.map_or(0, |last| last + 1)) {
        tracing::info!(path = %left.path.display(), "removed: there is enough to go on with");
        left.remove();
    }
    earlier
}

/// None when another process holds it, or it cannot be gone on with.
fn hold(path: PathBuf) -> Option<Earlier> {
    let file = OpenOptions::new().write(true).open(&path).ok()?;
    file.try_lock().ok()?;
    let said = About::read(&path).and_then(|about| {
        let metadata = file.metadata().map_err(|error| error.to_string())?;
        let modified = metadata.modified().map_err(|error| error.to_string())?;
        Ok((about, metadata.len(), modified))
    });
    match said {
        Ok((about, bytes, modified)) => Some(Earlier {
            path,
            bytes,
            about,
            modified,
            _file: file,
        }),
        Err(reason) => {
            let path_shown = path.display();
            tracing::info!(path = %path_shown, reason, "removed: its process is gone");
            remove(&path);
            None
        }
    }
}

/// Removes a notebook and what it is about.
pub(super) fn remove(path: &Path) {
    for path in [path, &About::path(path)] {
        if let Err(error) = fs::remove_file(path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %path.display(), "cannot remove");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learning::notebook::file::NotebookFile;

    fn about() -> About {
        let learner = Learner {
            key: "api-1".to_owned(),
            ..Learner::default()
        };
        About::new([("api".to_owned(), learner)].into())
    }

    #[test]
    fn a_notebook_is_taken_over_once_nobody_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let (first, held) = NotebookFile::create(folder.path()).unwrap();
        let (second, other) = NotebookFile::create(folder.path()).unwrap();
        assert_ne!(first, second);
        about().write(&first).unwrap();
        fs::write(folder.path().join("learning-7.json"), "{}").unwrap();
        fs::write(folder.path().join("learning-1.txt"), "").unwrap();
        drop(other);
        // Nothing says what the second is about.
        assert!(take_over(folder.path()).is_empty());
        assert!(first.exists() && !second.exists());
        drop(held);
        let earlier = take_over(folder.path());
        assert_eq!(earlier.len(), 1);
        assert!(take_over(folder.path()).is_empty(), "held by two");
        let learner = |name, key, image| earlier[0].learner(name, key, image);
        assert!(learner("api", "api-1", None).is_some());
        assert!(learner("db", "api-1", None).is_none());
        assert!(learner("api", "api-2", None).is_none());
        assert!(learner("api", "api-1", Some("sha256:1")).is_none());
        earlier[0].remove();
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn the_latest_notebooks_are_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..=MOST {
            let path = folder.path().join(format!("learning-{number}.rec"));
            fs::write(&path, "x").unwrap();
            about().write(&path).unwrap();
            let file = File::options().write(true).open(&path).unwrap();
            let later = std::time::Duration::from_secs(number as u64);
            file.set_modified(SystemTime::UNIX_EPOCH + later).unwrap();
        }
        let earlier = take_over(folder.path());
        assert_eq!(earlier.len(), MOST);
        assert!(earlier[0].path.ends_with("learning-1.rec"));
        assert!(!folder.path().join("learning-0.rec").exists());
        assert!(!folder.path().join("learning-0.json").exists());
    }
}
