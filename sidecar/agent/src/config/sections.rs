//! The sections of the configuration. Doc comments become the comments of the reference file;
//! `x-range` is checked when a configuration is loaded, and printed there.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::{DurationText, LogLevel, Size};
use crate::capture::{NodeSocket, broker::DEFAULT_SOCKET};
use crate::diagnosis::DiagnosisConfig;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CaptureConfig {
    /// Whose kernel programs capture: those of the node broker that listens at this socket; `auto`
    /// for the one at /run/stethos/node.sock if it serves this pod, else Stethos's own; `off` for
    /// its own.
    pub node_socket: String,
    /// Ring buffer between kernel and sidecar; a power of two. When it is full, calls are lost,
    /// counted, and a `gap` marks where.
    #[schemars(extend("x-range" = ["64KiB", "1GiB"]))]
    pub ring_size: Size,
    /// Longest time between two looks at the ring.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "DurationText", extend("x-range" = ["1ms", "1s"]))]
    pub poll_interval: Duration,
    /// Time between two looks at what every thread is inside of: how soon a call that does not
    /// return is seen.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "DurationText", extend("x-range" = ["10ms", "500ms"]))]
    pub snapshot_interval: Duration,
    /// Threads watched at a time, rounded up to a power of two of at least 512; what further ones
    /// do is counted as lost. A thousand take 7 MB of kernel memory.
    #[schemars(extend("x-range" = ["64", "524288"]))]
    pub max_threads: u32,
    /// Whether what is familiar is only counted in the kernel, once everything is learned and while
    /// nothing is out of the ordinary; a sample is shipped all the same.
    pub reduce: bool,
}

impl Default for CaptureConfig {
    fn default() -> Self {
        Self {
            node_socket: "auto".to_owned(),
            ring_size: Size::mib(2),
            poll_interval: Duration::from_millis(25),
            snapshot_interval: Duration::from_millis(250),
            max_threads: 512,
            reduce: true,
        }
    }
}

impl CaptureConfig {
    pub fn node(&self) -> NodeSocket {
        match self.node_socket.as_str() {
            "auto" => NodeSocket::Auto,
            "off" => NodeSocket::Own,
            path => NodeSocket::At(path.into()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NodeConfig {
    /// Where sidecars connect; `off` to serve `socket_dir` alone.
    pub socket: PathBuf,
    /// A directory with one socket per pod, beside `socket`: for every file NAME.cgroup, which
    /// holds the pod's cgroup, the broker listens at NAME/node.sock. None when empty.
    pub socket_dir: PathBuf,
    /// Where programs and maps are pinned, so that capture outlives a restart of the broker: a
    /// folder on a BPF file system. With `off`, capture ends with the broker.
    pub pins: PathBuf,
    /// Where the node's root is mounted: below it, the files of its container runtime tell names
    /// and images.
    pub root: PathBuf,
    /// Serve only pods whose cgroup lies below one of these (/kubepods.slice); all when empty.
    pub below: Vec<PathBuf>,
    /// Threads that one pod may have watched at a time; a sidecar that asks for more gets this.
    #[schemars(extend("x-range" = ["64", "65536"]))]
    pub max_threads: u32,
    /// Ring buffer that one pod may have.
    #[schemars(extend("x-range" = ["64KiB", "64MiB"]))]
    pub max_ring_size: Size,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            socket: DEFAULT_SOCKET.into(),
            socket_dir: PathBuf::new(),
            pins: "/sys/fs/bpf/stethos".into(),
            root: "/".into(),
            below: Vec::new(),
            max_threads: 2048,
            max_ring_size: Size::mib(4),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LearningConfig {
    /// Learning ends when the probability that the next call comes in a context not seen before
    /// (Good-Turing) falls under this.
    #[schemars(extend("x-range" = ["0.000001", "0.5"]))]
    pub unseen_bound: f64,
    /// Learning lasts at least this long.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "DurationText", extend("x-range" = ["0s", "1day"]))]
    pub min_duration: Duration,
    /// Learning ends at the latest after this; watching then begins with widened thresholds.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "DurationText", extend("x-range" = ["1s", "7days"]))]
    pub ceiling: Duration,
    /// Learning takes at least this many calls.
    #[schemars(extend("x-range" = ["0", "1000000000"]))]
    pub min_calls: u64,
    /// The child process that trains the models.
    pub training: TrainingConfig,
    /// The store that replicas share their models through (docs/models.md).
    pub store: StoreConfig,
}

impl Default for LearningConfig {
    fn default() -> Self {
        Self {
            unseen_bound: 0.002,
            min_duration: Duration::from_secs(20),
            ceiling: Duration::from_secs(600),
            min_calls: 2000,
            training: TrainingConfig::default(),
            store: StoreConfig::default(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrainingConfig {
    /// Time that one training may take.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "DurationText", extend("x-range" = ["1s", "1h"]))]
    pub time_limit: Duration,
    /// Niceness of the process.
    #[schemars(extend("x-range" = ["0", "19"]))]
    pub nice: u8,
    /// Memory that the process may take.
    #[schemars(extend("x-range" = ["64MiB", "64GiB"]))]
    pub memory: Size,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            time_limit: Duration::from_secs(60),
            nice: 19,
            memory: Size::mib(512),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// Where it is: `file:///shared/models`, `s3://bucket/prefix`, `gs://bucket/prefix` or
    /// `az://container/prefix`; there is none when empty. Credentials, endpoint and the like come
    /// from the variables `AWS_*`, `GOOGLE_*` or `AZURE_*`.
    pub url: String,
    /// First part of every name in the store: tenants share nothing.
    pub tenant: String,
    /// What this pod is a replica of. When empty: K8S_DEPLOYMENT_NAME, else the application's
    /// `service.name`, after K8S_NAMESPACE_NAME and a dot where that is set.
    pub workload: String,
    /// File with the Ed25519 private key (PKCS#8 in PEM) that signs what is stored; not signed when
    /// empty.
    pub sign_key: PathBuf,
    /// Files with Ed25519 public keys (PEM). Only bundles signed by one of them, or by `sign_key`,
    /// are used; any, when empty.
    pub trusted_keys: Vec<PathBuf>,
    /// Replicas that have to see a new version of an image healthy, before its models take the place
    /// of an older version's.
    #[schemars(extend("x-range" = ["1", "100"]))]
    pub replicas: u32,
    /// Time that finding or saving a bundle may take, before it is tried again later.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "DurationText", extend("x-range" = ["100ms", "10m"]))]
    pub time_limit: Duration,
    /// Times that a single request is repeated within that time.
    #[schemars(extend("x-range" = ["0", "20"]))]
    pub retries: u32,
    /// Longest wait before a store that fails is asked again; waits begin at 2s and double.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "DurationText", extend("x-range" = ["1s", "1day"]))]
    pub retry_interval: Duration,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            tenant: "default".to_owned(),
            workload: String::new(),
            sign_key: PathBuf::new(),
            trusted_keys: Vec::new(),
            replicas: 2,
            time_limit: Duration::from_secs(30),
            retries: 3,
            retry_interval: Duration::from_secs(300),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PluginsConfig {
    /// Components beside the built-in `generic` one. The first entry that fits a container serves
    /// it.
    pub load: Vec<PluginEntry>,
    /// Memory that one plugin may take.
    #[schemars(extend("x-range" = ["1MiB", "4GiB"]))]
    pub memory: Size,
    /// Time that one batch of windows may take in a plugin.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "DurationText", extend("x-range" = ["1ms", "1m"]))]
    pub deadline: Duration,
}

impl Default for PluginsConfig {
    fn default() -> Self {
        Self {
            load: Vec::new(),
            memory: Size::mib(64),
            deadline: Duration::from_millis(500),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PluginEntry {
    /// The component.
    pub file: PathBuf,
    /// Which containers it serves; all of them when left out.
    #[serde(default, rename = "for")]
    pub serves: PluginSelector,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PluginSelector {
    /// Name of the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Start of the image's name, where that is known; of Docker Hub's, `docker.io/library/` may be
    /// left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Application type, as the plugin that fits the container best names it: `http-server`,
    /// `key-value-cache`, `sql-database`, `message-broker`, `reverse-proxy`, `jvm`, `node`, `python`,
    /// one of a plugin of yours, or `generic`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub application: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DiagnosisSettings {
    /// Whether to diagnose at all; without it Stethos only captures and learns.
    pub enabled: bool,
    /// Whether the learned models take part; without them only errors, durations and lifecycle
    /// are judged.
    pub models: bool,
    /// False alarms that all signals together may raise, per pod and day.
    #[schemars(extend("x-range" = ["0.01", "100"]))]
    pub false_alarms_per_day: f64,
    /// A network exchange is slow only when it takes this much longer than its median.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "DurationText", extend("x-range" = ["0s", "1m"]))]
    pub slowdown: Duration,
    /// A call on a file is slow only when it takes this much longer than its median.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "DurationText", extend("x-range" = ["0s", "1m"]))]
    pub file_slowdown: Duration,
}

impl Default for DiagnosisSettings {
    fn default() -> Self {
        let engine = DiagnosisConfig::default();
        Self {
            enabled: true,
            models: engine.models,
            false_alarms_per_day: engine.false_alarms_per_day,
            slowdown: Duration::from_millis(engine.slowdown_ms),
            file_slowdown: Duration::from_millis(engine.file_slowdown_ms),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExportSettings {
    /// Whether to send diagnoses over OTLP. Endpoint, protocol, headers and the rest come from
    /// the `OTEL_*` variables.
    pub otlp: bool,
    /// Spans that one incident may send in a minute; what is held back is counted.
    #[schemars(extend("x-range" = ["0", "10000"]))]
    pub spans_per_minute: u32,
    /// Bytes that diagnoses may take in `state_dir` until the collector has them, logs and spans each;
    /// over it, the oldest are dropped and counted. `0B`: they wait in memory, for five minutes.
    #[schemars(extend("x-range" = ["0B", "64GiB"]))]
    pub outbox: Size,
    /// A folder with the files `labels` and `annotations` of the pod, as the downward API writes them: what
    /// they say of the application stands in its resource.
    pub pod_info: PathBuf,
}

impl Default for ExportSettings {
    fn default() -> Self {
        Self {
            otlp: true,
            spans_per_minute: 30,
            outbox: Size::mib(32),
            pod_info: "/etc/podinfo".into(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TraceConfig {
    /// Whether to look for `traceparent` in plain HTTP/1.1 and HTTP/2.
    pub http: bool,
    /// Taking the OTLP of applications, forwarding it unchanged, and finding their own spans in it.
    pub passthrough: PassthroughSettings,
}

impl Default for TraceConfig {
    fn default() -> Self {
        Self {
            http: true,
            passthrough: PassthroughSettings::default(),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PassthroughSettings {
    /// Addresses where applications may send OTLP, such as `127.0.0.1:4317` and `127.0.0.1:4318`; off
    /// when empty.
    #[schemars(with = "Vec<String>")]
    pub listen: Vec<SocketAddr>,
    /// The collector for gRPC: `http://collector:4317`; gRPC is refused when empty. Certificates for
    /// `https` come from OTEL_EXPORTER_OTLP_CERTIFICATE, _CLIENT_CERTIFICATE and _CLIENT_KEY.
    pub grpc: String,
    /// The collector for HTTP, with what stands before `/v1/traces`: `http://collector:4318`; HTTP is
    /// refused when empty.
    pub http: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Least severe messages that Stethos writes about itself, on standard error.
    pub level: LogLevel,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            level: LogLevel::Info,
        }
    }
}
