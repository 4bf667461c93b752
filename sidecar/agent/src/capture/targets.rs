//! What to capture: the sidecar's own pod, a cgroup, or a process.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// `--target`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Target {
    /// The cgroup above the sidecar's own: its pod.
    SelfPod,
    /// A cgroup and its descendants: an absolute path, or one below the cgroup v2 mount.
    Cgroup(PathBuf),
    /// A process and those that it starts.
    Pid(u32),
}

#[derive(Debug, Error, PartialEq, Eq)]
#[error("target {0:?} is none of self-pod, cgroup=PATH, pid=NUMBER")]
pub struct TargetSyntax(String);

impl FromStr for Target {
    type Err = TargetSyntax;

    fn from_str(text: &str) -> Result<Self, TargetSyntax> {
        let wrong = || TargetSyntax(text.to_owned());
        match text.split_once('=') {
            None if text == "self-pod" => Ok(Target::SelfPod),
            Some(("cgroup", path)) if !path.is_empty() => Ok(Target::Cgroup(path.into())),
            Some(("pid", pid)) => match pid.parse() {
                Ok(pid) if pid > 0 => Ok(Target::Pid(pid)),
                _ => Err(wrong()),
            },
            _ => Err(wrong()),
        }
    }
}

impl TryFrom<String> for Target {
    type Error = TargetSyntax;

    fn try_from(text: String) -> Result<Self, TargetSyntax> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> String {
        target.to_string()
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::SelfPod => f.write_str("self-pod"),
            Target::Cgroup(path) => write!(f, "cgroup={}", path.display()),
            Target::Pid(pid) => write!(f, "pid={pid}"),
        }
    }
}

#[derive(Debug, Error)]
pub enum TargetError {
    #[error(
        "no cgroup v2 is mounted here (looked in /proc/self/mounts); Stethos needs one, alone or beside v1"
    )]
    NoCgroup2,
    #[error("target cgroup {path}: {source}")]
    Cgroup { path: PathBuf, source: io::Error },
    #[error("target cgroup {path} is not below the cgroup v2 mount {mount}")]
    Outside { path: PathBuf, mount: PathBuf },
    #[error("target pid {0}: no such process")]
    NoProcess(u32),
    #[error(
        "self-pod: the sidecar's own cgroup is the root, so no pod stands above it; give cgroup=PATH or pid=NUMBER"
    )]
    NoPod,
}

/// Where cgroup v2 is mounted.
pub fn cgroup_mount() -> Result<PathBuf, TargetError> {
    let mounts = fs::read_to_string("/proc/self/mounts").map_err(|_| TargetError::NoCgroup2)?;
    mounts
        .lines()
        .find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let path = fields.next()?;
            (fields.next()? == "cgroup2").then(|| PathBuf::from(path))
        })
        .ok_or(TargetError::NoCgroup2)
}

/// A cgroup as the kernel programs know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Its id, which is the inode number of its folder; 0 when only known from inside.
    pub id: u64,
    /// Depth below the root cgroup (0).
    pub level: u32,
    pub path: Option<PathBuf>,
}

/// Finds a cgroup by path.
pub fn cgroup_at(mount: &Path, path: &Path) -> Result<Cgroup, TargetError> {
    let joined = if path.starts_with(mount) {
        path.to_owned()
    } else {
        mount.join(path.strip_prefix("/").unwrap_or(path))
    };
    let full = joined
        .canonicalize()
        .map_err(|source| TargetError::Cgroup {
            path: joined.clone(),
            source,
        })?;
    let below = full.strip_prefix(mount).map_err(|_| TargetError::Outside {
        path: full.clone(),
        mount: mount.to_owned(),
    })?;
    let id = fs::metadata(&full)
        .map_err(|source| TargetError::Cgroup {
            path: full.clone(),
            source,
        })?
        .ino();
    Ok(Cgroup {
        id,
        level: below.components().count() as u32,
        path: Some(full),
    })
}

/// The pod of a process, from its cgroup and ancestors (root first, 0 where there is none).
pub fn pod_of(ancestors: &[u64]) -> Result<Cgroup, TargetError> {
    let own = ancestors.iter().rposition(|id| *id != 0).unwrap_or(0);
    if own < 2 {
        // Own cgroup is the root or directly below it: nothing that is a pod of its own.
        return Err(TargetError::NoPod);
    }
    Ok(Cgroup {
        id: ancestors[own - 1],
        level: own as u32 - 1,
        path: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_read_back_as_written() {
        for text in ["self-pod", "cgroup=/kubepods/pod1", "pid=17"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn wrong_targets_are_named() {
        for text in ["", "pod", "pid=", "pid=0", "pid=x", "cgroup="] {
            assert!(
                text.parse::<Target>()
                    .unwrap_err()
                    .to_string()
                    .contains("self-pod"),
                "{text}"
            );
        }
    }

    #[test]
    fn the_pod_is_the_cgroup_above() {
        let pod = pod_of(&[1, 20, 30, 40, 0, 0]).unwrap();
        assert_eq!((pod.id, pod.level), (30, 2));
        assert!(pod_of(&[1, 0, 0]).is_err());
    }
}
