//! One socket per pod: whoever mounts pods' volumes (a CSI driver) makes the folder `NAME`, mounts
//! it into the pod, and writes the pod's cgroup into the file `NAME.cgroup` beside it; the broker
//! listens at `NAME/node.sock`.

use std::{
    collections::HashMap,
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Component, Path, PathBuf},
};

use stethos_events::PODS;

use super::{
    identity::{self, PodCgroup},
    socket::Socket,
};

const CGROUP: &str = "cgroup";
const SOCKET: &str = "node.sock";

/// The listening sockets of a directory, by folder.
pub(super) struct Directory {
    folder: PathBuf,
    mount: PathBuf,
    /// Cgroups that pods lie in; any when empty.
    below: Vec<PathBuf>,
    listening: HashMap<PathBuf, (Socket, PodCgroup)>,
}

impl Directory {
    pub(super) fn new(folder: PathBuf, mount: PathBuf, below: Vec<PathBuf>) -> Self {
        Self {
            folder,
            mount,
            below,
            listening: HashMap::new(),
        }
    }

    pub(super) fn listeners(&self) -> impl Iterator<Item = &(Socket, PodCgroup)> {
        self.listening.values()
    }

    /// Begins to listen in folders that are new, and ends where they are gone.
    pub(super) fn look(&mut self) {
        let (mount, below) = (&self.mount, &self.below);
        let pod_in = |file: &Path| {
            let path = path_in(file, below)?;
            identity::at(mount, path).map_err(|error| error.to_string())
        };
        self.listening.retain(|folder, (_, pod)| {
            let now = pod_in(&folder.with_extension(CGROUP));
            let same = now.is_ok_and(|now| now.path == pod.path && now.cgroup.id == pod.cgroup.id);
            same && folder.join(SOCKET).exists()
        });
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let file = entry.path();
            let folder = file.with_extension("");
            if file.extension().is_none_or(|ending| ending != CGROUP)
                || self.listening.len() >= PODS
                || self.listening.contains_key(&folder)
            {
                continue;
            }
            let began = pod_in(&file).and_then(|pod| {
                let socket = listen(&folder.join(SOCKET)).map_err(|error| error.to_string())?;
                Ok((socket, pod))
            });
            match began {
                Ok(listener) => {
                    self.listening.insert(folder, listener);
                }
                Err(reason) => {
                    tracing::debug!(folder = %folder.display(), reason, "no socket for a pod");
                }
            }
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        for folder in self.listening.keys() {
            let _ = fs::remove_file(folder.join(SOCKET));
        }
    }
}

/// The pod's cgroup that stands in a file: a whole line, an absolute path that is not the root and
/// lies in one of `below`.
fn path_in(file: &Path, below: &[PathBuf]) -> Result<PathBuf, String> {
    let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
    let Some(line) = text.strip_suffix('\n') else {
        return Err("no whole line".to_owned());
    };
    let path = PathBuf::from(line);
    let mut parts = path.components();
    let absolute = parts.next() == Some(Component::RootDir);
    let names = parts.clone().count() > 0 && parts.all(|part| matches!(part, Component::Normal(_)));
    if !absolute || !names {
        return Err(format!("{line:?} is no cgroup below the mount"));
    }
    if !identity::is_served(&path, below) {
        return Err(format!("{line} is not among the cgroups that are served"));
    }
    Ok(path)
}

/// Listens at `path`, where a socket may stand that nobody listens at any more.
pub(super) fn listen(path: &Path) -> io::Result<Socket> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = Socket::listen(path)?;
    // Whoever reaches a socket may connect: who is served is decided by identity.
    fs::set_permissions(path, Permissions::from_mode(0o666))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_line_with_a_pods_path_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pod.cgroup");
        let taken = |text: &str, below: &[PathBuf]| {
            fs::write(&file, text).unwrap();
            path_in(&file, below).ok()
        };
        let pod = Some(PathBuf::from("/kubepods/pod1"));
        assert_eq!(taken("/kubepods/pod1\n", &[]), pod);
        assert_eq!(taken("/kubepods/pod1\n", &["/kubepods".into()]), pod);
        assert_eq!(taken("/kubepods/pod1\n", &["/other".into()]), None);
        for text in [
            "",
            "\n",
            "/\n",
            "/kubepods",
            "kubepods/pod1\n",
            "/kubepods/../pod1\n",
            "/kubepods/pod1\n/kubepods/pod2",
        ] {
            assert_eq!(taken(text, &[]), None, "{text:?}");
        }
    }
}
