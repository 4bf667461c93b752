//! Where programs and maps stay when the broker that loaded them ends: in a folder of the BPF file
//! system, one below it for every build of the programs.
//!
//! ```text
//! ROOT/v<record version>-<hash of the programs>/maps/NAME
//!                                              /programs/NAME
//!                                              /links/NAME
//!                                              /pods/<index>-<key>/windows, events, bank0…
//! ```

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};
use stethos_events::RECORD_VERSION;

use super::KernelError;

const LOADING: &str = "-loading";

/// The folder of one build of the programs.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    folder: PathBuf,
}

impl Pins {
    /// Name of the folder of these programs.
    pub(super) fn key(object: &[u8], http: bool) -> String {
        let mut hash = Sha256::new();
        hash.update(object);
        hash.update([u8::from(http)]);
        let hash = hash.finalize();
        let hex: String = hash.iter().take(6).map(|b| format!("{b:02x}")).collect();
        format!("v{RECORD_VERSION}-{hex}")
    }

    /// What a broker with the same programs left.
    pub(super) fn left(root: &Path, key: &str) -> Option<Self> {
        let folder = root.join(key);
        folder.is_dir().then_some(Self { folder })
    }

    /// An empty folder, which counts as left behind only after [`Pins::complete`].
    pub(super) fn begin(root: &Path, key: &str) -> Result<Self, KernelError> {
        Self::abandon(root, key)?;
        let folder = root.join(format!("{key}{LOADING}"));
        make(root).map_err(|error| failed(root, &error))?;
        for part in [
            folder.clone(),
            folder.join("maps"),
            folder.join("programs"),
            folder.join("links"),
            folder.join("pods"),
        ] {
            make(&part).map_err(|error| failed(&part, &error))?;
        }
        Ok(Self { folder })
    }

    /// Removes what was begun and not completed.
    pub(super) fn abandon(root: &Path, key: &str) -> Result<(), KernelError> {
        let folder = root.join(format!("{key}{LOADING}"));
        remove(&folder).map_err(|error| failed(&folder, &error))
    }

    pub(super) fn complete(self, root: &Path, key: &str) -> Result<Self, KernelError> {
        let folder = root.join(key);
        fs::rename(&self.folder, &folder).map_err(|error| failed(&folder, &error))?;
        Ok(Self { folder })
    }

    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.folder.join("maps").join(name)
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.folder.join("programs").join(name)
    }

    pub(super) fn link(&self, name: &str) -> PathBuf {
        self.folder.join("links").join(name)
    }

    pub(super) fn pod(&self, index: u32, key: u64) -> PathBuf {
        self.folder.join("pods").join(format!("{index}-{key}"))
    }

    /// Index and key of every pod that has a folder.
    pub(super) fn pods(&self) -> Vec<(u32, u64)> {
        let entries = fs::read_dir(self.folder.join("pods"));
        let names = entries.into_iter().flatten().flatten();
        names
            .filter_map(|entry| {
                let name = entry.file_name();
                let (index, key) = name.to_str()?.split_once('-')?;
                Some((index.parse().ok()?, key.parse().ok()?))
            })
            .collect()
    }

    pub(super) fn remove_pod(&self, index: u32, key: u64) -> Result<(), KernelError> {
        let folder = self.pod(index, key);
        remove(&folder).map_err(|error| failed(&folder, &error))
    }
}

/// Makes a folder that only its owner can enter; one that is there is left as it is.
pub(super) fn make(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(super) fn failed(path: &Path, error: &dyn std::fmt::Display) -> KernelError {
    KernelError::Pins {
        path: path.display().to_string(),
        reason: error.to_string(),
    }
}

/// Whether pins can stand in `root`: it, or the folder that it would be made in, is on a BPF file
/// system.
pub fn possible(root: &Path) -> bool {
    const BPF_FS: libc::c_long = 0xcafe_4a11;
    let near = if root.exists() {
        Some(root)
    } else {
        root.parent()
    };
    let Some(path) =
        near.and_then(|path| std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).ok())
    else {
        return false;
    };
    // SAFETY: plain integers, valid when zero.
    let mut found: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: a valid path and room for the answer.
    unsafe { libc::statfs(path.as_ptr(), &raw mut found) == 0 && found.f_type == BPF_FS }
}

/// Removes what brokers left in `root`, but for the folder `keep`. What is not theirs stays.
pub(super) fn remove_left(root: &Path, keep: Option<&str>) -> Result<usize, KernelError> {
    if !possible(root) || !root.exists() {
        return Ok(0);
    }
    let mut removed = 0;
    for entry in fs::read_dir(root)
        .map_err(|error| failed(root, &error))?
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let version = name.strip_prefix('v').and_then(|rest| rest.split_once('-'));
        let ours = version.is_some_and(|(number, _)| number.parse::<u32>().is_ok());
        if ours && keep != Some(&name) {
            remove(&entry.path()).map_err(|error| failed(&entry.path(), &error))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Held by the one broker whose pins are in `root`, as long as it runs. None when another has it.
pub fn lock(root: &Path) -> Result<Option<File>, KernelError> {
    let folder = make(root)
        .and_then(|()| File::open(root))
        .map_err(|error| failed(root, &error))?;
    match folder.try_lock() {
        Ok(()) => Ok(Some(folder)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(failed(root, &error)),
    }
}

/// Detaches and removes all that brokers left in `root`. Gives how many builds of the programs it
/// were.
pub fn unload(root: &Path) -> Result<usize, KernelError> {
    if !possible(root) || !root.exists() {
        return Ok(0);
    }
    let Some(_lock) = lock(root)? else {
        return Err(failed(root, &"a broker is running with them; end it first"));
    };
    let removed = remove_left(root, None)?;
    if removed > 0 {
        // What is not theirs keeps it.
        let _ = fs::remove_dir(root);
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_programs_have_another_folder() {
        let key = Pins::key(b"programs", true);
        assert!(key.starts_with(&format!("v{RECORD_VERSION}-")), "{key}");
        assert_ne!(key, Pins::key(b"programs", false));
        assert_ne!(key, Pins::key(b"other programs", true));
    }

    #[test]
    fn nothing_is_removed_outside_a_bpf_file_system() {
        let folder = tempfile::tempdir().unwrap();
        let left = folder.path().join("v1-000000000000");
        fs::create_dir(&left).unwrap();
        assert_eq!(unload(folder.path()).unwrap(), 0);
        assert!(left.exists());
    }
}
