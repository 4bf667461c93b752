//! Where and as whom a process runs, beside its cgroup v2.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use nix::unistd::{Gid, Uid, User as Account, chdir, setgid, setgroups, setuid};

use super::open_cgroup;

/// Where cgroup v1 hierarchies are mounted, one folder a controller.
pub(super) const CONTROLLERS: &str = "/sys/fs/cgroup";
/// Controllers that faults use. Those that cgroup v2 has need no hierarchy of their own.
const USED: [&str; 4] = ["cpu", "cpuacct", "memory", "pids"];

/// The hierarchy of a cgroup v1 controller, where it is mounted.
pub(super) fn hierarchy(controller: &str) -> Option<PathBuf> {
    let root = Path::new(CONTROLLERS).join(controller);
    // A cgroup v2 mount has no folder of this name at its root, or one that is a cgroup of it.
    let is_v1 = root.join("cgroup.clone_children").exists();
    is_v1.then_some(root)
}

/// A user and its main group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct User {
    uid: Uid,
    gid: Gid,
}

impl User {
    /// # Errors
    /// When the machine has no such user.
    pub(crate) fn named(name: &str) -> Result<Self> {
        let account = Account::from_name(name).with_context(|| format!("user {name}"))?;
        let account = account.with_context(|| format!("no user {name} on this machine"))?;
        Ok(Self {
            uid: account.uid,
            gid: account.gid,
        })
    }
}

/// By default the caller's own namespaces and user, without limits.
#[derive(Debug, Default)]
pub(crate) struct Inside {
    /// A network namespace.
    pub(crate) network: Option<File>,
    /// A mount namespace.
    pub(crate) mounts: Option<File>,
    pub(crate) user: Option<User>,
    /// The working directory, as the process sees it.
    pub(crate) folder: Option<PathBuf>,
    /// Be in the cgroup v1 twins of the cgroup, where such controllers are mounted.
    pub(crate) limited: bool,
}

impl Inside {
    pub(crate) fn try_clone(&self) -> Result<Self> {
        let copy = |file: &Option<File>| file.as_ref().map(File::try_clone).transpose();
        Ok(Self {
            network: copy(&self.network)?,
            mounts: copy(&self.mounts)?,
            user: self.user,
            folder: self.folder.clone(),
            limited: self.limited,
        })
    }

    /// What a process of `group` in the lab `name` needs between fork and exec.
    pub(super) fn entrance(&self, name: &str, group: &str) -> Result<Entrance> {
        let mut twins = Vec::new();
        if self.limited {
            for root in USED.into_iter().filter_map(hierarchy) {
                twins.push(open_cgroup(&root.join(name).join(group))?);
            }
        }
        let own = self.try_clone()?;
        let folder = match &self.folder {
            Some(folder) => Some(CString::new(folder.as_os_str().as_bytes())?),
            None => None,
        };
        Ok(Entrance { twins, own, folder })
    }
}

pub(super) struct Entrance {
    twins: Vec<File>,
    own: Inside,
    folder: Option<CString>,
}

impl Entrance {
    /// Makes system calls only.
    pub(super) fn enter(&self) -> io::Result<()> {
        for mut twin in &self.twins {
            twin.write_all(b"0")?;
        }
        if let Some(network) = &self.own.network {
            setns(network, CloneFlags::CLONE_NEWNET)?;
        }
        if let Some(mounts) = &self.own.mounts {
            setns(mounts, CloneFlags::CLONE_NEWNS)?;
        }
        if let Some(folder) = &self.folder {
            chdir(folder.as_c_str())?;
        }
        if let Some(user) = self.own.user {
            setgroups(&[user.gid])?;
            setgid(user.gid)?;
            setuid(user.uid)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name() {
        assert_eq!(User::named("root").unwrap().uid, Uid::from_raw(0));
        let unknown = User::named("no-such-user").unwrap_err().to_string();
        assert!(unknown.contains("no-such-user"), "{unknown}");
    }

    #[test]
    fn a_controller_without_a_hierarchy_has_no_twin() {
        assert_eq!(hierarchy("no-such-controller"), None);
    }
}
