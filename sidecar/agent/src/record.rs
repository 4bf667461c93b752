//! What capture hands on, live or from a recording. Everything after capture depends on these
//! values alone: no clock, no `/proc`, no kernel.

mod http2;
mod network;
mod published;
mod resources;
mod spans;

pub use http2::{Http2Head, Http2Heads, Http2Message};
pub use network::{NetworkCounters, NetworkState, SocketState};
pub use published::{ProcessResource, SpanSource, ThreadSpan};
use serde::{Deserialize, Serialize};
use stethos_patterns::{Role, Token, descriptors::Exchange};

pub use resources::{ContainerResources, MemoryUse, Throttling};
pub use spans::OwnSpan;

/// Nanoseconds of the recorded machine's monotonic clock. [`Header::unix_offset_ns`] makes it
/// Unix time.
pub type Nanos = u64;

/// Index of a container within one run of the sidecar.
pub type ContainerIndex = u16;

/// First thing in a stream of records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// `x86_64`, `aarch64` or (imported) `i386`: what the call numbers mean.
    pub arch: String,
    /// `uname -r` of the recorded machine.
    pub kernel: String,
    /// Unix time in ns minus monotonic time in ns, at the start.
    pub unix_offset_ns: i64,
    /// `self-contained`, `broker` or `import`.
    pub capture_mode: String,
    /// The user's name for the target.
    pub target: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Record {
    Container(ContainerInfo),
    Process(ProcessInfo),
    Window(CallWindow),
    Detail(Detail),
    Http(HttpHead),
    Lifecycle(Lifecycle),
    Threads(ThreadsSnapshot),
    Descriptor(DescriptorInfo),
    Tick(Tick),
    Reduced(Reduced),
    Counts(CallCounts),
    Exchange(TimedExchange),
    Life(DescriptorLife),
    Network(NetworkState),
    Resources(ContainerResources),
    Span(OwnSpan),
    ThreadSpan(ThreadSpan),
    Resource(ProcessResource),
    Http2(Http2Heads),
    Closed(ConnectionClosed),
}

/// A container (or a process tree that was named by pid). Sent again when its name was not known
/// before; the processes of a container come once it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerInfo {
    pub at_ns: Nanos,
    pub container: ContainerIndex,
    /// As its runtime calls it; otherwise the last component of the cgroup path, or `cgroup-N` as
    /// long as that is not known.
    pub name: String,
    /// Container id, when the cgroup path carries one.
    pub id: Option<String>,
    pub cgroup_path: String,
    /// Reference of the image without its digest, when known: `docker.io/library/nginx:1.27`.
    pub image: Option<String>,
    /// `REPOSITORY@sha256:…` when the registry's digest is known, or the id that the runtime has
    /// for the image: `sha256:…`.
    pub image_digest: Option<String>,
}

/// A process seen in a container. Sent again when it execs. Values may be empty when the process
/// ended before it was looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessInfo {
    pub at_ns: Nanos,
    pub container: ContainerIndex,
    pub pid: u32,
    pub executable: String,
    pub command_line: Vec<String>,
    /// `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` and `HOSTNAME` of its environment, when readable; no other variable is looked at.
    pub environment: Vec<(String, String)>,
    /// Listening TCP addresses (`127.0.0.1:6379`), as far as known.
    pub listens: Vec<String>,
}

/// A run of finished calls of one thread, in order of return.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallWindow {
    pub container: ContainerIndex,
    pub pid: u32,
    pub tid: u32,
    /// Number of this window among the thread's windows, from 0; a jump is a gap.
    pub sequence: u64,
    /// Calls of this thread lost directly before this window (then a `gap` token leads it).
    pub lost_before: u32,
    /// Familiar calls of this thread that were only counted, directly before this window.
    pub counted_before: u64,
    /// Windows that this one stands for: itself, and familiar ones that were only counted.
    pub weight: u32,
    /// The thread's last four tokens before this window, as `stethos_events::token`; 0 where not
    /// known.
    pub context: u64,
    pub calls: Vec<Call>,
    pub end: WindowEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WindowEnd {
    /// The thread entered a call that waits.
    Wait,
    /// 64 calls.
    Full,
    ThreadExit,
    /// Read out of the thread's slot while the thread was still inside it: the rest follows in
    /// a window of its own.
    Peeked,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    pub nr: u16,
    /// First argument, for calls whose first argument is a descriptor; -1 otherwise.
    pub fd: i32,
    /// Return value (-errno on error).
    pub ret: i64,
    /// When it began to wait: its return less its duration. For a call that did not wait, its
    /// return.
    pub enter_ns: Nanos,
    /// How long the thread was off the processor of its own accord: neither running nor ready to
    /// run. 0 for a call that did not wait.
    pub duration_ns: u64,
    /// Entered and never returned (the thread ended inside it).
    pub no_return: bool,
    /// Counted in the kernel, too.
    pub counted: bool,
}

/// What an argument of one call pointed at: the path of a failed call or of a file that was opened
/// (told once), the address of a connect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detail {
    /// When the call returned.
    pub at_ns: Nanos,
    pub container: ContainerIndex,
    pub pid: u32,
    pub tid: u32,
    pub nr: u16,
    pub fd: i32,
    pub ret: i64,
    pub subject: Subject,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Subject {
    Path(String),
    /// `127.0.0.1:6379`, `[::1]:80`, `unix:/run/x.sock`.
    Peer(String),
}

/// The start of an HTTP/1.1 message in plain text on a descriptor. The payload is not kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HttpHead {
    /// When the read or write that carried it returned.
    pub at_ns: Nanos,
    pub container: ContainerIndex,
    pub pid: u32,
    pub tid: u32,
    pub fd: i32,
    pub direction: Direction,
    pub message: HttpMessage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    Incoming,
    Outgoing,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum HttpMessage {
    Request {
        method: String,
        traceparent: Option<TraceParent>,
    },
    Response {
        status: u16,
    },
}

/// W3C `traceparent`, version 00.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TraceParent {
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
    pub flags: u8,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lifecycle {
    pub at_ns: Nanos,
    pub container: ContainerIndex,
    pub pid: u32,
    pub tid: u32,
    pub event: LifecycleEvent,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum LifecycleEvent {
    /// A new thread (`child_pid == pid`) or process.
    Fork {
        child_pid: u32,
        child_tid: u32,
    },
    Exec {
        executable: String,
    },
    /// The thread ended; `group_dead` when it was the process's last. `code` is then the
    /// process's as of `wait(2)`.
    Exit {
        code: i32,
        group_dead: bool,
    },
    OomKill,
}

/// Threads of the target as they stand, at least every 500 ms: what the stuck-call and frozen
/// signals read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ThreadsSnapshot {
    pub at_ns: Nanos,
    pub threads: Vec<ThreadState>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ThreadState {
    pub container: ContainerIndex,
    pub pid: u32,
    pub tid: u32,
    pub state: RunState,
    /// The call the thread is inside now.
    pub inside: Option<InsideCall>,
    /// The last call that returned.
    pub last: Option<Call>,
}

/// What the scheduler says of a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunState {
    /// Running, or ready to run.
    #[default]
    Running,
    /// Asleep until a signal or what it waits for.
    Sleeping,
    /// Asleep until what it waits for, mostly a disk.
    Blocked,
    /// Stopped by a signal or a debugger.
    Stopped,
    /// Frozen with its cgroup.
    Frozen,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct InsideCall {
    pub nr: u16,
    pub fd: i32,
    /// Since when it waits.
    pub enter_ns: Nanos,
}

/// What a descriptor of a process stands for: `/data/orders.log`, `127.0.0.1:6379`, `pipe`.
/// Looked up for descriptors that appear in errors and in long calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DescriptorInfo {
    pub at_ns: Nanos,
    pub pid: u32,
    pub fd: i32,
    pub target: DescriptorTarget,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DescriptorTarget {
    File(String),
    /// Established TCP: the local and the peer's address.
    Tcp {
        local: String,
        peer: String,
    },
    /// Listening TCP.
    Listener(String),
    Other(String),
}

/// What of familiar calls is shipped from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reduced {
    pub at_ns: Nanos,
    /// Of so many familiar windows one is shipped, as a sample; the others are only counted. 0: all
    /// windows are shipped.
    pub sample: u32,
}

/// What the kernel counted in one container since the last such record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallCounts {
    pub at_ns: Nanos,
    pub container: ContainerIndex,
    pub rows: Vec<CountedRow>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CountedRow {
    pub kind: CountedKind,
    pub count: u64,
    /// Sum of the durations.
    pub duration_ns: u64,
    /// How many by `stethos_events::duration_class`, those without any left out.
    pub classes: Vec<(u8, u64)>,
}

/// What is counted in one row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum CountedKind {
    /// Familiar calls; their durations are their waits. Those of shipped windows are marked
    /// [`Call::counted`].
    Call(Token),
    /// Answers of a peer, from request to answer. Slow ones are told as well.
    Answers { peer: String },
    /// The container's own answers. Slow ones are told as well.
    Service,
}

/// An exchange that began while calls were only counted: slow, failed, of a peer that is not
/// familiar, or (once a second) without an answer until now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimedExchange {
    pub at_ns: Nanos,
    pub container: ContainerIndex,
    pub exchange: Exchange,
}

/// A descriptor that HTTP heads were seen on is closed, or stands for something else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectionClosed {
    pub at_ns: Nanos,
    pub container: ContainerIndex,
    pub pid: u32,
    /// The thread that did it.
    pub tid: u32,
    pub fd: i32,
}

/// A descriptor as it has been since a moment at which calls were only counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DescriptorLife {
    pub since_ns: Nanos,
    pub pid: u32,
    pub fd: i32,
    /// `None` when it was closed.
    pub role: Role,
    pub peer: Option<String>,
}

/// Once a second: the clock of everything after capture, and the account of what was seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tick {
    pub at_ns: Nanos,
    pub accounts: Vec<(ContainerIndex, Account)>,
    /// Runs of the programs, on the whole node, that the kernel skipped because one was running on
    /// that processor already: calls and ends of threads that nobody saw.
    pub skipped_recursion: u64,
}

/// Calls since the start, per container: `seen = delivered + counted + held + lost`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub seen: u64,
    pub delivered: u64,
    /// Familiar calls that were only counted.
    pub counted: u64,
    /// Still in a thread's slot in the kernel.
    pub held: u64,
    pub lost_ring_full: u64,
    pub lost_no_slot: u64,
    pub lost_decode: u64,
}

impl Account {
    /// Lost by any cause.
    pub fn lost(&self) -> u64 {
        self.lost_ring_full
            .saturating_add(self.lost_no_slot)
            .saturating_add(self.lost_decode)
    }
}
