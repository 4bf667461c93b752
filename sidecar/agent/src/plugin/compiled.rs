//! Compiles components, and keeps the machine code on disk.
//!
//! A kept file is the SHA-256 of what follows and the engine's serialised component; its name is
//! the hash of the component's bytes and of the engine's settings, version and CPU features. A file
//! that does not match is compiled anew.

use std::fs::{self, DirBuilder};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::error::PluginError;

/// Bytes that a component may have: bounds what compiling it costs.
const COMPONENT_BYTES: usize = 32 << 20;
/// Compiled components that are kept; the oldest go first.
const KEPT: usize = 16;
const EXTENSION: &str = "compiled";
const DIGEST: usize = 32;

/// Compiles `bytes`, or takes it from `folder` when it lies there.
pub(super) fn component(
    engine: &Engine,
    name: &str,
    bytes: &[u8],
    folder: Option<&Path>,
) -> Result<Component, PluginError> {
    let name = name.to_owned();
    if bytes.is_empty() {
        return Err(PluginError::Empty { name });
    }
    if bytes.len() > COMPONENT_BYTES {
        return Err(PluginError::TooLarge {
            name,
            size: bytes.len(),
            limit: COMPONENT_BYTES,
        });
    }
    let folder = folder.filter(|folder| match own(folder) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "compiled plugins are not kept");
            false
        }
    });
    let file = folder.map(|folder| file(engine, bytes, folder));
    if let Some(kept) = file.as_deref().and_then(|file| read(engine, file)) {
        return Ok(kept);
    }
    let component =
        Component::from_binary(engine, bytes).map_err(|error| PluginError::NotAComponent {
            name,
            reason: format!("{error:#}"),
        })?;
    if let Some((folder, file)) = folder.zip(file)
        && let Err(error) = write(&component, folder, &file)
    {
        tracing::warn!(file = %file.display(), %error, "compiled plugin not kept");
    }
    Ok(component)
}

/// Whether `bytes` were compiled into `folder` before.
pub(super) fn is_kept(engine: &Engine, bytes: &[u8], folder: &Path) -> bool {
    file(engine, bytes, folder).exists()
}

/// Makes the folder, and refuses one that another user could have written to.
fn own(folder: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let metadata = fs::metadata(folder)?;
    // SAFETY: geteuid takes nothing, touches no memory and always succeeds.
    let user = unsafe { libc::geteuid() };
    if metadata.uid() != user || metadata.mode() & 0o022 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "the folder must belong to this user and be writable for no other",
        ));
    }
    Ok(())
}

fn file(engine: &Engine, bytes: &[u8], folder: &Path) -> PathBuf {
    let mut settings = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut settings);
    let mut hash = Sha256::new();
    hash.update(settings.finish().to_le_bytes());
    hash.update(bytes);
    let name: String = hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    folder.join(name).with_extension(EXTENSION)
}

/// None when the file is missing, damaged or of another engine.
fn read(engine: &Engine, file: &Path) -> Option<Component> {
    let kept = match fs::read(file) {
        Ok(kept) => kept,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "compiled plugin not read");
            return None;
        }
    };
    let sound = kept
        .split_at_checked(DIGEST)
        .filter(|(digest, code)| Sha256::digest(code).as_slice() == *digest);
    let Some((_, code)) = sound else {
        tracing::warn!(file = %file.display(), "compiled plugin is damaged, compiling anew");
        return None;
    };
    // SAFETY: `code` is what `write` put here: the folder is this user's alone and the digest
    // matches. The engine checks its own version and settings.
    match unsafe { Component::deserialize(engine, code) } {
        Ok(component) => Some(component),
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "compiled plugin does not fit");
            None
        }
    }
}

fn write(component: &Component, folder: &Path, file: &Path) -> io::Result<()> {
    let code = component.serialize().map_err(io::Error::other)?;
    // A reader sees a whole file or none, and two writers never share a part.
    static PARTS: AtomicU32 = AtomicU32::new(0);
    let number = PARTS.fetch_add(1, Relaxed);
    let part = file.with_extension(format!("part-{}-{number}", std::process::id()));
    let written = fs::write(&part, [Sha256::digest(&code).as_slice(), &code].concat())
        .and_then(|()| fs::rename(&part, file));
    if written.is_err() {
        // Nothing more can be done about a part that stays.
        let _ = fs::remove_file(&part);
    }
    written.and_then(|()| prune(folder))
}

fn prune(folder: &Path) -> io::Result<()> {
    let mut kept = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == EXTENSION)
        {
            kept.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    kept.sort();
    for (_, file) in kept.iter().rev().skip(KEPT) {
        fs::remove_file(file)?;
    }
    Ok(())
}
