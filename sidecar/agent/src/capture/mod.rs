//! Capture: the kernel programs, and what they deliver as [`Record`]s; recordings of the same.

pub mod btf;
pub mod classes;
pub mod decode;
pub mod facts;
pub mod inner_maps;
pub mod kernel;
pub mod lookup;
pub mod node;
pub mod pod;
pub mod reader;
pub mod recording;
pub mod reduction;
pub mod targets;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::mpsc;

use self::{
    kernel::{Capacity, Kernel, KernelError},
    node::OwnNode,
    pod::{Pod, Slots},
    reader::Reader,
    reduction::Reducer,
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
    pub reducer: Reducer,
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

/// Loads the kernel programs for `targets` and starts the reader.
pub fn start(targets: &[Target], settings: Settings) -> Result<Live, KernelError> {
    let mut kernel = Kernel::load(PROGRAMS, settings.http)?;
    let found = kernel.find(targets)?;
    let (index, maps) = kernel.add_pod(&found, settings.capacity)?;
    let pod = Pod::map(&maps)?;
    let (slots, reducer) = (pod.slots.clone(), Reducer::map(&maps)?);
    kernel.attach()?;
    return_freed_memory();
    for missing in &kernel.missing {
        tracing::warn!(missing, "part of the capture is not available");
    }
    let header = Header {
        arch: std::env::consts::ARCH.to_owned(),
        kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")
            .unwrap_or_default()
            .trim()
            .to_owned(),
        unix_offset_ns: reader::unix_offset_ns(),
        capture_mode: "self-contained".to_owned(),
        target: targets
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(","),
    };
    let (sender, records) = mpsc::channel(BATCHES);
    let flag = Arc::new(AtomicBool::new(false));
    let node = OwnNode::new(kernel, index, &found, targets::cgroup_mount().ok());
    let mut reader = Reader::new(Box::new(node), pod, settings);
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
