//! Bundles on disk, one file per container and command.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};
use stethos_bundle::{Bundle, BundleError};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum StoreError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

/// What a bundle is kept under.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(String);

impl Key {
    /// Same container name, architecture, executable and command line: same key.
    pub fn new(container: &str, arch: &str, executable: &str, command_line: &[String]) -> Self {
        let command = command_line.iter().map(String::as_str);
        let words = [container, arch, executable].into_iter().chain(command);
        let hash = digest::<6>(words);
        let name: String = container
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') {
                    c
                } else {
                    '_'
                }
            })
            .take(64)
            .collect();
        Self(format!("{name}-{hash}"))
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The first `N` bytes of the digest of `words`, in hexadecimal: `ab c` and `a bc` have different ones.
pub(super) fn digest<'a, const N: usize>(words: impl IntoIterator<Item = &'a str>) -> String {
    let mut digest = Sha256::new();
    for word in words {
        digest.update((word.len() as u64).to_le_bytes());
        digest.update(word.as_bytes());
    }
    hex(&digest.finalize()[..N])
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A folder of bundles.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// Makes the folder when it is missing.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let folder = state_dir.join("bundles");
        fs::create_dir_all(&folder).map_err(|source| StoreError::Io {
            path: folder.clone(),
            source,
        })?;
        Ok(Self { folder })
    }

    pub fn path(&self, key: &Key) -> PathBuf {
        self.folder.join(format!("{key}.bundle"))
    }

    /// Keeps the bytes of a bundle under `key`.
    pub fn save(&self, key: &Key, bundle: &[u8]) -> Result<(), StoreError> {
        write_whole(&self.path(key), bundle)
    }

    /// The bundle under `key`; none when there is none.
    pub fn load(&self, key: &Key) -> Result<Option<Bundle>, StoreError> {
        let path = self.path(key);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(Bundle::read(&bytes, &path.display().to_string())?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::Io { path, source }),
        }
    }
}

/// Writes a file so that a reader sees the old one or the new one, whole.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let failed = |source| StoreError::Io {
        path: path.to_owned(),
        source,
    };
    let temporary = path.with_extension(format!("tmp{}", std::process::id()));
    let written = (|| {
        let mut file = fs::File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_commands_apart_and_are_file_names() {
        let key = |container, command: &[&str]| {
            let command: Vec<_> = command.iter().map(|part| (*part).to_owned()).collect();
            Key::new(container, "x86_64", "redis-server", &command).to_string()
        };
        assert_eq!(key("redis", &["a", "b"]), key("redis", &["a", "b"]));
        assert_ne!(key("redis", &["a", "b"]), key("redis", &["ab"]));
        assert!(key("../../etc", &[]).starts_with("______etc-"));
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bundle");
        write_whole(&path, b"old").unwrap();
        assert!(write_whole(&path.join("below-a-file"), b"new").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_bundle_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let key = Key::new("api", "x86_64", "api", &[]);
        assert!(store.load(&key).unwrap().is_none());
        fs::write(store.path(&key), b"junk").unwrap();
        let error = store.load(&key).unwrap_err().to_string();
        assert!(error.contains("api-"), "{error}");
    }
}
