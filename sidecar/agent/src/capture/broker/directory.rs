//! One socket per pod: whoever mounts pods' volumes (a CSI driver) makes the folder `NAME`, mounts
//! it into the pod, and writes the pod's cgroup into the file `NAME.cgroup` beside it; the broker
//! listens at `NAME/node.sock`.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
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
    listening: HashMap<PathBuf, (Socket, PodCgroup)>,
}

impl Directory {
    pub(super) fn new(folder: PathBuf, mount: PathBuf) -> Self {
        Self {
            folder,
            mount,
            listening: HashMap::new(),
        }
    }

    pub(super) fn listeners(&self) -> impl Iterator<Item = &(Socket, PodCgroup)> {
        self.listening.values()
    }

    /// Begins to listen in folders that are new, and ends where they are gone.
    pub(super) fn look(&mut self) {
        self.listening
            .retain(|folder, _| folder.with_extension(CGROUP).exists());
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let file = entry.path();
            let folder = file.with_extension("");
            if file.extension().is_none_or(|ending| ending != CGROUP)
                || self.listening.len() >= PODS
                || self.listening.contains_key(&folder)
            {
                continue;
            }
            let Ok(cgroup) = fs::read_to_string(&file) else {
                continue;
            };
            let began = identity::at(&self.mount, cgroup.trim_end().into())
                .map_err(|error| error.to_string())
                .and_then(|pod| {
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

/// Listens at `path`, where a socket may stand that nobody listens at any more.
pub(super) fn listen(path: &Path) -> io::Result<Socket> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    Socket::listen(path)
}
