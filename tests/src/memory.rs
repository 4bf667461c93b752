//! A bound on the memory of processes.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::cgroup::{self, Cgroup};

/// Removed when dropped; what a killed test left is removed by the next one.
pub struct MemoryLimit {
    folder: PathBuf,
    /// What gives the test's cgroup (v2) its bound, and takes it away again.
    controllers: Option<PathBuf>,
}

impl MemoryLimit {
    /// Bounds `cgroup`, where the memory controller is version 2's; makes a cgroup (v1) with the
    /// bound otherwise, for [`MemoryLimit::take`]. None where this machine has no such controller.
    pub fn new(name: &str, cgroup: &Cgroup, bytes: u64) -> io::Result<Option<Self>> {
        if let Some(mount) = v1_mount()? {
            cgroup::remove_stale(&mount);
            let folder = mount.join(cgroup::name(name));
            fs::create_dir_all(&folder)?;
            let limit = Self {
                folder,
                controllers: None,
            };
            // Memory that is swapped out does not count.
            fs::write(limit.folder.join("memory.swappiness"), "0")?;
            fs::write(
                limit.folder.join("memory.limit_in_bytes"),
                bytes.to_string(),
            )?;
            return Ok(Some(limit));
        }
        let folder = cgroup.path().to_owned();
        let above = folder.parent().unwrap_or(Path::new("/"));
        let has = fs::read_to_string(above.join("cgroup.controllers"))?;
        if !has.split_whitespace().any(|name| name == "memory") {
            return Ok(None);
        }
        let controllers = above.join("cgroup.subtree_control");
        let before = fs::read_to_string(&controllers)?;
        let mut limit = Self {
            folder,
            controllers: None,
        };
        if !before.split_whitespace().any(|name| name == "memory") {
            fs::write(&controllers, "+memory")?;
            limit.controllers = Some(controllers);
        }
        fs::write(limit.folder.join("memory.max"), bytes.to_string())?;
        // Without swap there is no such file.
        let _ = fs::write(limit.folder.join("memory.swap.max"), "0");
        Ok(Some(limit))
    }

    /// Takes a process in; what it has already does not count.
    pub fn take(&self, pid: u32) -> io::Result<()> {
        match self.folder.join("memory.limit_in_bytes").exists() {
            true => fs::write(self.folder.join("cgroup.procs"), pid.to_string()),
            // It is in the test's cgroup.
            false => Ok(()),
        }
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        match &self.controllers {
            Some(controllers) => {
                let _ = fs::write(self.folder.join("memory.max"), "max");
                let _ = fs::write(controllers, "-memory");
            }
            None if self.folder.join("memory.limit_in_bytes").exists() => {
                cgroup::remove(&self.folder);
            }
            None => {}
        }
    }
}

/// Where the memory controller of version 1 is mounted.
fn v1_mount() -> io::Result<Option<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let found = mounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let [_, path, "cgroup", options, ..] = fields[..] else {
            return None;
        };
        let memory = options.split(',').any(|option| option == "memory");
        memory.then(|| PathBuf::from(path))
    });
    Ok(found)
}
