//! Which pod a peer belongs to, as the kernel says.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use procfs::process::Process;
use thiserror::Error;

use crate::capture::{
    kernel::Found,
    lookup, pidfd,
    targets::{Cgroup, Target, TargetError, cgroup_at},
};

#[derive(Debug, Error)]
pub(super) enum IdentityError {
    #[error(
        "the broker does not see the process ids of this pod: it needs the host's PID namespace \
         (hostPID: true)"
    )]
    Invisible,
    #[error("the process that connected is gone")]
    Gone,
    #[error("process {connected} connected, but process {speaks} speaks")]
    OtherSpeaker { connected: u32, speaks: u32 },
    #[error(
        "the broker does not see the cgroup of process {0}: it needs the host's cgroup namespace \
         and a cgroup v2 mount"
    )]
    NoCgroup(u32),
    #[error("cgroup {0} lies in no pod: no cgroup but the root stands above it")]
    NoPod(String),
    #[error("cgroup {0} lies below none of the cgroups that this broker serves")]
    NotServed(String),
    #[error("{target} is not within this sidecar's own pod ({pod})")]
    OtherPod { target: String, pod: String },
    #[error(transparent)]
    Target(#[from] TargetError),
}

/// A pod by its cgroup.
#[derive(Clone, Debug)]
pub(super) struct PodCgroup {
    /// Below the mount, with a leading slash.
    pub(super) path: PathBuf,
    pub(super) cgroup: Cgroup,
}

/// A process that stays the same one as long as this is held and [`Peer::is_there`].
pub(super) struct Peer {
    pub(super) pid: u32,
    handle: OwnedFd,
}

impl Peer {
    pub(super) fn open(pid: u32) -> Result<Self, IdentityError> {
        if pid == 0 {
            return Err(IdentityError::Invisible);
        }
        let handle = pidfd::open(pid).map_err(|_| IdentityError::Gone)?;
        Ok(Self { pid, handle })
    }

    /// True as long as the process has not ended.
    fn is_there(&self) -> bool {
        !pidfd::has_ended(&self.handle)
    }

    /// Its cgroup, below the mount. The caller has seen it speak after [`Peer::open`]: with that,
    /// and as it is still there, the id was not another process's at any time between.
    fn cgroup(&self) -> Result<String, IdentityError> {
        let process = Process::new(self.pid as i32).map_err(|_| IdentityError::Gone)?;
        let cgroup = lookup::cgroup_of(&process).ok_or(IdentityError::NoCgroup(self.pid))?;
        if !self.is_there() {
            return Err(IdentityError::Gone);
        }
        // From within a cgroup namespace, what lies outside begins with `/..`.
        if cgroup.starts_with("/..") {
            return Err(IdentityError::NoCgroup(self.pid));
        }
        Ok(cgroup)
    }

    /// Its pod: the cgroup above its own, which lies below one of `served`.
    pub(super) fn pod(&self, mount: &Path, served: &[PathBuf]) -> Result<PodCgroup, IdentityError> {
        let own = self.cgroup()?;
        let path = pod_path(&own).ok_or_else(|| IdentityError::NoPod(own.clone()))?;
        if !is_served(&path, served) {
            return Err(IdentityError::NotServed(own));
        }
        at(mount, path)
    }
}

/// Whether a pod lies in one of the cgroups that are `served`; any does when there is none.
pub(super) fn is_served(pod: &Path, served: &[PathBuf]) -> bool {
    served.is_empty() || served.iter().any(|below| pod.starts_with(below))
}

/// The pod with this cgroup.
pub(super) fn at(mount: &Path, path: PathBuf) -> Result<PodCgroup, IdentityError> {
    let cgroup = cgroup_at(mount, &path)?;
    Ok(PodCgroup { path, cgroup })
}

/// The cgroup above `own`, unless it is the root.
pub(super) fn pod_path(own: &str) -> Option<PathBuf> {
    let pod = Path::new(own).parent()?;
    (pod.components().count() > 1).then(|| pod.to_owned())
}

/// Which of a node's cgroups, by connection, before anything is known for certain.
pub(super) fn rough_pod(pid: u32) -> Option<String> {
    let process = Process::new(pid as i32).ok()?;
    let own = lookup::cgroup_of(&process)?;
    Some(pod_path(&own)?.display().to_string())
}

/// What a sidecar may watch, as it stands on this machine: what lies within its pod, or anything
/// when there is none to keep to.
pub(super) fn targets(
    wanted: &[Target],
    pod: Option<&PodCgroup>,
    mount: &Path,
) -> Result<Vec<Found>, IdentityError> {
    wanted
        .iter()
        .map(|target| {
            let other = || IdentityError::OtherPod {
                target: target.to_string(),
                pod: pod.map_or_else(|| "none".to_owned(), |pod| pod.path.display().to_string()),
            };
            match target {
                Target::SelfPod => {
                    let pod = pod.ok_or_else(other)?;
                    Ok(Found::Cgroup(pod.cgroup.clone()))
                }
                Target::Cgroup(path) => {
                    // A path that climbs is not looked at: what it names is nobody's to know.
                    if pod.is_some() && path.components().any(|part| part == Component::ParentDir) {
                        return Err(other());
                    }
                    if let Some(pod) = pod {
                        let below = path.strip_prefix(mount).unwrap_or(path);
                        let below = Path::new("/").join(below);
                        if !below.starts_with(&pod.path) {
                            return Err(other());
                        }
                    }
                    Ok(Found::Cgroup(cgroup_at(mount, path)?))
                }
                Target::Pid(pid) => {
                    let process = Process::new(*pid as i32).ok();
                    let cgroup = process.as_ref().and_then(lookup::cgroup_of);
                    match (cgroup, pod) {
                        (Some(own), Some(pod)) if Path::new(&own).starts_with(&pod.path) => {}
                        (Some(_), None) => {}
                        (None, None) => return Err(TargetError::NoProcess(*pid).into()),
                        _ => return Err(other()),
                    }
                    Ok(match pod {
                        Some(pod) => Found::process_within(*pid, pod.path.clone()),
                        None => Found::process(*pid),
                    })
                }
            }
        })
        .collect()
}

/// A number that nobody can guess.
pub(super) fn nonce() -> io::Result<u64> {
    let mut bytes = [0; 8];
    // SAFETY: room of the length that is told.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    match got {
        8 => Ok(u64::from_ne_bytes(bytes)),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pod_is_the_cgroup_above_and_never_the_root() {
        let pod = |own| pod_path(own).map(|path| path.display().to_string());
        assert_eq!(pod("/kubepods/pod1/app").as_deref(), Some("/kubepods/pod1"));
        assert_eq!(pod("/pod1/app").as_deref(), Some("/pod1"));
        assert_eq!(pod("/app"), None);
        assert_eq!(pod("/"), None);
    }

    #[test]
    fn what_lies_outside_the_pod_is_refused() {
        let mount = Path::new("/sys/fs/cgroup");
        let pod = PodCgroup {
            path: "/kubepods/pod1".into(),
            cgroup: Cgroup {
                id: 7,
                level: 2,
                path: None,
            },
        };
        for target in [
            "cgroup=/kubepods/pod2",
            "cgroup=/kubepods/pod10",
            "cgroup=/kubepods",
            "cgroup=/kubepods/pod1/../pod2",
            "cgroup=/sys/fs/cgroup/kubepods/pod2",
            "cgroup=/",
            "pid=1",
        ] {
            let refused = targets(&[target.parse().unwrap()], Some(&pod), mount);
            assert!(
                matches!(refused, Err(IdentityError::OtherPod { .. })),
                "{target}: {refused:?}"
            );
        }
        let own = targets(&[Target::SelfPod], Some(&pod), mount).unwrap();
        assert!(matches!(&own[..], [Found::Cgroup(cgroup)] if cgroup.id == 7));
    }

    #[test]
    fn a_process_that_ended_is_not_there() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let peer = Peer::open(child.id()).unwrap();
        child.wait().unwrap();
        assert!(!peer.is_there());
        assert!(Peer::open(std::process::id()).unwrap().is_there());
        assert!(matches!(Peer::open(0), Err(IdentityError::Invisible)));
    }
}
