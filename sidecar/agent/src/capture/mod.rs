//! Capture: the kernel programs, and what they deliver as [`Record`]s; recordings of the same.

pub mod broker;
pub mod btf;
pub mod classes;
pub mod decode;
pub mod facts;
pub mod followed;
pub mod inner_maps;
pub mod kernel;
pub mod lookup;
pub mod node;
pub mod peers;
pub mod pidfd;
pub mod pod;
pub mod process_context;
pub mod reader;
pub mod recording;
pub mod reduction;
pub mod rights;
pub mod runtime;
pub mod targets;
pub mod thread_context;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::mpsc;

use stethos_events::RECORD_VERSION;
use thiserror::Error;

use self::{
    broker::{
        client::{BrokerError, BrokerNode},
        protocol::Join,
    },
    kernel::{Capacity, Found, Kernel, KernelError, Place},
    node::{Node, OwnNode},
    pod::{Pod, PodMaps, Slots},
    reader::Reader,
    reduction::{Reducer, SharedReducer},
    rights::RightsError,
    targets::Target,
};
use crate::record::{Header, Record};

/// The kernel programs that this binary carries; empty when it was built without.
pub const PROGRAMS: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/stethos.bpf.o"));

/// Sizes and intervals of live capture.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub capacity: Capacity,
    /// How often the rings are read.
    pub poll_interval: Duration,
    /// How often the threads' slots are read.
    pub snapshot_interval: Duration,
    /// Whether the start of what looks like HTTP/1 is read for its trace context.
    pub http: bool,
}

/// Batches under way between the reader and the pipeline. When the pipeline is slower, the reader
/// waits, the ring fills, and the kernel counts what it could not hand over.
const BATCHES: usize = 64;

/// A running capture.
pub struct Live {
    pub header: Header,
    pub records: mpsc::Receiver<Vec<Record>>,
    pub stop: Stop,
    /// What happened just before, at any moment.
    pub slots: Arc<Slots>,
    /// What the kernel ships and what it only counts; at first it ships everything.
    pub reducer: SharedReducer,
}

/// Stops the reader when dropped.
pub struct Stop {
    flag: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stop {
    /// Asks the reader to hand on what is left and end; its channel then closes.
    pub fn ask(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.ask();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Gives back what reading the kernel's type information took: tens of MB that are not needed again.
fn return_freed_memory() {
    // SAFETY: no arguments that matter; it only returns free pages to the kernel.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Whose programs capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeSocket {
    /// This process's own.
    Own,
    /// Those of the node broker at the usual place, if it serves this sidecar; else its own.
    Auto,
    /// Those of the node broker that listens here.
    At(PathBuf),
}

#[derive(Debug, Error)]
pub enum CaptureError {
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// A broker that starts together with the sidecar is waited for this long.
const BROKER_START: Duration = Duration::from_secs(10);

/// A capture that only has to begin. Programs of its own run by now, and capture nothing yet.
pub struct Prepared {
    source: Source,
    targets: Vec<Target>,
    settings: Settings,
}

enum Source {
    Own {
        kernel: Box<Kernel>,
        place: Place,
        maps: PodMaps,
        found: Vec<Found>,
    },
    Broker {
        node: Box<BrokerNode>,
        maps: PodMaps,
    },
}

/// Does all that needs a right.
pub fn prepare(
    node: &NodeSocket,
    targets: &[Target],
    settings: Settings,
) -> Result<Prepared, CaptureError> {
    let own = || prepare_own(targets, settings).map_err(CaptureError::from);
    let source = match node {
        NodeSocket::Own => own(),
        NodeSocket::At(path) => join(path, targets, settings, BROKER_START),
        NodeSocket::Auto => {
            let usual = Path::new(broker::DEFAULT_SOCKET);
            match join(usual, targets, settings, Duration::ZERO) {
                Err(CaptureError::Broker(error)) => {
                    if !error.is_absent() {
                        tracing::warn!(%error, "capturing without the node broker");
                    }
                    own()
                }
                joined => joined,
            }
        }
    }?;
    Ok(Prepared {
        source,
        targets: targets.to_vec(),
        settings,
    })
}

impl Prepared {
    /// Gives up the rights of the calling thread that nothing needs any more, for good: those to
    /// name files and peers of other users' processes stay where this process looks them up.
    /// Threads have rights of their own, so this comes before others start.
    pub fn give_up_rights(&self) -> Result<(), RightsError> {
        let kept = match &self.source {
            Source::Own { .. } => &rights::TO_NAME_FILES[..],
            Source::Broker { .. } => &[],
        };
        let left = rights::keep_only(kept)?;
        tracing::info!(?left, "gave up what is not needed any more");
        Ok(())
    }

    /// Begins to capture. Needs no right.
    pub fn begin(self) -> Result<Live, KernelError> {
        let Self {
            source,
            targets,
            settings,
        } = self;
        match source {
            Source::Own {
                kernel,
                mut place,
                maps,
                found,
            } => {
                kernel.watch(&mut place, &found)?;
                let node = OwnNode::new(*kernel, place, &found, targets::cgroup_mount().ok());
                read("self-contained", Box::new(node), &maps, &targets, settings)
            }
            Source::Broker { node, maps } => read("broker", node, &maps, &targets, settings),
        }
    }
}

/// Starts to capture `targets`.
pub fn start_with(
    node: &NodeSocket,
    targets: &[Target],
    settings: Settings,
) -> Result<Live, CaptureError> {
    Ok(prepare(node, targets, settings)?.begin()?)
}

/// Starts to capture `targets` with kernel programs of this process's own.
pub fn start(targets: &[Target], settings: Settings) -> Result<Live, KernelError> {
    let prepared = Prepared {
        source: prepare_own(targets, settings)?,
        targets: targets.to_vec(),
        settings,
    };
    prepared.begin()
}

/// Loads and attaches the kernel programs, with a pod that has nothing in its scope yet.
fn prepare_own(targets: &[Target], settings: Settings) -> Result<Source, KernelError> {
    let mut kernel = Kernel::load(PROGRAMS, settings.http)?;
    let found = kernel.find(targets)?;
    let own = kernel.own_pid;
    let (place, maps) = kernel.add_pod(0, &[], settings.capacity)?;
    kernel.exclude(own, place.index)?;
    kernel.attach()?;
    return_freed_memory();
    for missing in &kernel.missing {
        tracing::warn!(missing, "part of the capture is not available");
    }
    Ok(Source::Own {
        kernel: Box::new(kernel),
        place,
        maps,
        found,
    })
}

/// Has the broker at `path` capture `targets`. No right is needed, and `bpf(2)` is not called.
fn join(
    path: &Path,
    targets: &[Target],
    settings: Settings,
    patience: Duration,
) -> Result<Source, CaptureError> {
    const AGAIN: Duration = Duration::from_millis(200);
    let wish = Join {
        record_version: RECORD_VERSION,
        targets: targets.to_vec(),
        window_ring_bytes: settings.capacity.window_ring_bytes,
        event_ring_bytes: settings.capacity.event_ring_bytes,
        threads: settings.capacity.threads,
        has: None,
    };
    let began = std::time::Instant::now();
    let (node, maps) = loop {
        match BrokerNode::join(path, wish.clone()) {
            Err(error) if error.is_absent() && began.elapsed() < patience => {
                std::thread::sleep(AGAIN);
            }
            joined => break joined?,
        }
    };
    Ok(Source::Broker {
        node: Box::new(node),
        maps,
    })
}

/// Starts the reader.
fn read(
    mode: &str,
    node: Box<dyn Node>,
    maps: &PodMaps,
    targets: &[Target],
    settings: Settings,
) -> Result<Live, KernelError> {
    let pod = Pod::map(maps)?;
    let slots = pod.slots.clone();
    let reducer = SharedReducer::new(Reducer::map(maps)?);
    let header = Header {
        arch: std::env::consts::ARCH.to_owned(),
        kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")
            .unwrap_or_default()
            .trim()
            .to_owned(),
        unix_offset_ns: reader::unix_offset_ns(),
        capture_mode: mode.to_owned(),
        target: targets
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(","),
    };
    let (sender, records) = mpsc::channel(BATCHES);
    let flag = Arc::new(AtomicBool::new(false));
    let mut reader = Reader::new(node, pod, settings, reducer.clone());
    let stop = flag.clone();
    let thread = std::thread::Builder::new()
        .name("capture".to_owned())
        .spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let batch = reader.read();
                if !batch.is_empty() && sender.blocking_send(batch).is_err() {
                    return;
                }
            }
            let _ = sender.blocking_send(reader.finish());
        })
        .map_err(|error| KernelError::Load(format!("reader thread: {error}")))?;
    Ok(Live {
        header,
        records,
        stop: Stop {
            flag,
            thread: Some(thread),
        },
        slots,
        reducer,
    })
}
