//! Listens, and gives every connection a thread of its own: a sidecar whose pod hangs the broker's
//! look at one of its processes hangs nobody else.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use stethos_events::{PODS, RECORD_VERSION};
use thiserror::Error;

use super::{
    directory::{self, Directory},
    end::End,
    identity::{self, PodCgroup},
    protocol::{Greeting, Status, encode},
    refusals::{Cause, Refusals},
    seats::Seats,
    session,
    socket::Socket,
};
use crate::capture::{
    PROGRAMS,
    kernel::{self, Capacity, Kernel, KernelError, Place},
    return_freed_memory,
    targets::{TargetError, cgroup_mount},
};

#[derive(Clone, Debug)]
pub struct Settings {
    /// None to serve the directory alone.
    pub socket: Option<PathBuf>,
    pub directory: Option<PathBuf>,
    /// None to let capture end with the broker.
    pub pins: Option<PathBuf>,
    pub http: bool,
    /// Where the node's root is mounted.
    pub node_root: PathBuf,
    pub bounds: Bounds,
}

/// What sidecars may have and watch.
#[derive(Clone, Debug)]
pub struct Bounds {
    pub allow_any_target: bool,
    /// Cgroups (below the mount) that served pods lie in; any when empty.
    pub below: Vec<PathBuf>,
    /// What one pod may have at most.
    pub most: Capacity,
}

#[derive(Debug, Error)]
pub enum ServerError {
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(
        "the broker does not see the host's process ids, by which it tells pods apart: run it in \
         the host's PID namespace (hostPID: true)"
    )]
    OtherPids,
    #[error("socket {path}: {source}")]
    Socket { path: PathBuf, source: io::Error },
    #[error("another broker serves {0}")]
    Another(PathBuf),
}

/// Connections at a time: every pod's sidecar, and as many that are about to be served.
const CONNECTIONS: usize = 2 * PODS;
/// Connections of one pod: its sidecar, a second one that is refused, a doctor.
const CONNECTIONS_OF_POD: usize = 4;
/// Connections that are taken from one socket before the others' turn.
const TURN: usize = 16;
const TICK: Duration = Duration::from_secs(1);
const STACK: usize = 512 << 10;

/// What all connections use.
pub(super) struct Shared {
    pub(super) kernel: Kernel,
    pub(super) settings: Bounds,
    pub(super) mount: PathBuf,
    pub(super) node_root: PathBuf,
    seats: Mutex<Seats>,
    refusals: Refusals,
    /// Pods whose sidecar has its maps.
    pub(super) served: AtomicU32,
    connections: Mutex<HashMap<String, usize>>,
    pinned: bool,
}

impl Shared {
    pub(super) fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn status(&self) -> Status {
        Status {
            record_version: RECORD_VERSION,
            pinned: self.pinned,
            pods_served: self.served.load(Ordering::Relaxed),
            pods_waiting: self.seats().waiting() as u32,
            connections: self.connections().values().sum::<usize>() as u32,
            refused: self.refusals.counts(),
        }
    }
}

/// A broker that serves until it is stopped.
pub struct Server {
    shared: Arc<Shared>,
    listener: Option<(PathBuf, Socket)>,
    directory: Option<Directory>,
    /// Of the socket and of the pins: held as long as this broker runs.
    _locks: (Option<File>, Option<File>),
}

impl Server {
    pub fn start(settings: Settings) -> Result<Self, ServerError> {
        let mount = cgroup_mount()?;
        let lock = settings.socket.as_deref().map(lock).transpose()?;
        let pins = settings.pins.filter(|root| {
            let possible = kernel::pins_possible(root);
            if !possible {
                tracing::warn!(
                    root = %root.display(),
                    "no BPF file system there: capture ends with the broker"
                );
            }
            possible
        });
        let pins_lock = pins.as_deref().map(lock_pins).transpose()?;
        let (kernel, adopted) = match &pins {
            Some(root) => Kernel::pinned(PROGRAMS, settings.http, root)?,
            None => {
                let mut kernel = Kernel::load(PROGRAMS, settings.http)?;
                kernel.attach()?;
                (kernel, Vec::new())
            }
        };
        return_freed_memory();
        if kernel.own_pid != std::process::id() {
            return Err(ServerError::OtherPids);
        }
        for missing in &kernel.missing {
            tracing::warn!(missing, "part of the capture is not available");
        }
        let mut seats = Seats::default();
        seats.adopt(adopted, Instant::now());
        let listener = match settings.socket {
            Some(path) => {
                let socket = directory::listen(&path).map_err(|source| ServerError::Socket {
                    path: path.clone(),
                    source,
                })?;
                Some((path, socket))
            }
            None => None,
        };
        Ok(Self {
            directory: settings
                .directory
                .map(|folder| Directory::new(folder, mount.clone(), settings.bounds.below.clone())),
            shared: Arc::new(Shared {
                kernel,
                settings: settings.bounds,
                node_root: settings.node_root,
                mount,
                seats: Mutex::new(seats),
                refusals: Refusals::default(),
                served: AtomicU32::new(0),
                connections: Mutex::default(),
                pinned: pins.is_some(),
            }),
            listener,
            _locks: (lock, pins_lock),
        })
    }

    /// Serves until `stop`. Connections that are open then end with the process.
    pub fn run(mut self, stop: &AtomicBool) -> io::Result<()> {
        let mut next_tick = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            if Instant::now() >= next_tick {
                next_tick = Instant::now() + TICK;
                self.tick();
            }
            let listeners: Vec<(&Socket, Option<&PodCgroup>)> = self
                .listener
                .iter()
                .map(|(_, socket)| (socket, None))
                .chain(
                    self.directory
                        .iter()
                        .flat_map(Directory::listeners)
                        .map(|(socket, pod)| (socket, Some(pod))),
                )
                .collect();
            let sockets: Vec<&Socket> = listeners.iter().map(|(socket, _)| *socket).collect();
            Socket::wait_any(&sockets, Duration::from_millis(200))?;
            for (socket, pod) in &listeners {
                for _ in 0..TURN {
                    match socket.accept() {
                        Ok(connection) => meet(&self.shared, connection, pod.cloned()),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                        Err(error) => {
                            self.shared
                                .refusals
                                .count(Cause::Connections, 0, &error.to_string());
                            break;
                        }
                    }
                }
            }
        }
        if let Some((path, _)) = &self.listener {
            let _ = fs::remove_file(path);
        }
        Ok(())
    }

    fn tick(&mut self) {
        self.shared.kernel.decide_anew();
        let expired = self.shared.seats().expired(Instant::now());
        for Place { index, key, .. } in expired {
            tracing::info!(pod = index, "a sidecar did not come back");
            if let Err(error) = self.shared.kernel.remove_pod(index) {
                tracing::error!(%error, "the room of a pod could not be given back");
            }
            self.shared.seats().leave(key);
        }
        if let Some(directory) = &mut self.directory {
            directory.look();
        }
    }
}

/// One broker a folder of pins.
fn lock_pins(root: &Path) -> Result<File, ServerError> {
    kernel::lock_pins(root)?.ok_or_else(|| ServerError::Another(root.to_owned()))
}

/// One broker a socket.
fn lock(socket: &Path) -> Result<File, ServerError> {
    let mut path = socket.to_owned().into_os_string();
    path.push(".lock");
    let failed = |source| ServerError::Socket {
        path: socket.to_owned(),
        source,
    };
    if let Some(folder) = socket.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ServerError::Another(socket.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Gives a connection its thread, within bounds.
fn meet(shared: &Arc<Shared>, socket: Socket, assigned: Option<PodCgroup>) {
    let peer = socket.peer().ok();
    let pid = peer.map_or(0, |peer| peer.pid);
    let of = match (&assigned, identity::rough_pod(pid), peer) {
        (Some(pod), _, _) => pod.path.display().to_string(),
        (None, Some(pod), _) => pod,
        (None, None, Some(peer)) => format!("uid {}", peer.uid),
        (None, None, None) => "nobody".to_owned(),
    };
    let Some(place) = Connection::within_bounds(shared, of) else {
        let reason = "too many connections; try again";
        shared.refusals.count(Cause::Connections, pid, reason);
        let greeting = encode(&Greeting::refusing(reason.to_owned()), 256);
        // A new socket has room for it.
        let _ = greeting.map(|bytes| socket.send(&bytes));
        return;
    };
    let shared = shared.clone();
    let thread = std::thread::Builder::new()
        .name("sidecar".to_owned())
        .stack_size(STACK)
        .spawn(move || {
            if let Err(End::Refused(cause, reason)) = session::run(&shared, &socket, pid, assigned)
            {
                shared.refusals.count(cause, pid, &reason);
            }
            drop(place);
        });
    if let Err(error) = thread {
        tracing::error!(%error, "a connection has no thread");
    }
}

/// A counted connection.
struct Connection {
    shared: Arc<Shared>,
    of: String,
}

impl Connection {
    fn within_bounds(shared: &Arc<Shared>, of: String) -> Option<Self> {
        let mut all = shared.connections();
        let total: usize = all.values().sum();
        let own = all.entry(of.clone()).or_default();
        if total >= CONNECTIONS || *own >= CONNECTIONS_OF_POD {
            if *own == 0 {
                all.remove(&of);
            }
            return None;
        }
        *own += 1;
        drop(all);
        Some(Self {
            shared: shared.clone(),
            of,
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut all = self.shared.connections();
        if let Some(own) = all.get_mut(&self.of) {
            *own -= 1;
            if *own == 0 {
                all.remove(&self.of);
            }
        }
    }
}
