//! What diagnosis hands to export.

use serde::{Deserialize, Serialize};

use crate::record::{ContainerIndex, Nanos};

/// `error.type`: the classes users meet. The names are fixed.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub enum FaultClass {
    #[serde(rename = "dependency.refused")]
    DependencyRefused,
    #[serde(rename = "dependency.reset")]
    DependencyReset,
    #[serde(rename = "dependency.blackhole")]
    DependencyBlackhole,
    #[serde(rename = "dependency.slow")]
    DependencySlow,
    #[serde(rename = "dependency.hung")]
    DependencyHung,
    #[serde(rename = "network.unreachable")]
    NetworkUnreachable,
    #[serde(rename = "network.loss")]
    NetworkLoss,
    #[serde(rename = "network.throttled")]
    NetworkThrottled,
    #[serde(rename = "dns.failure")]
    DnsFailure,
    #[serde(rename = "disk.full")]
    DiskFull,
    #[serde(rename = "disk.quota")]
    DiskQuota,
    #[serde(rename = "disk.io_error")]
    DiskIoError,
    #[serde(rename = "disk.slow")]
    DiskSlow,
    #[serde(rename = "disk.read_only")]
    DiskReadOnly,
    #[serde(rename = "permission.denied")]
    PermissionDenied,
    #[serde(rename = "file.missing")]
    FileMissing,
    #[serde(rename = "fd.exhausted")]
    FdExhausted,
    #[serde(rename = "fd.leak")]
    FdLeak,
    #[serde(rename = "thread.limit")]
    ThreadLimit,
    #[serde(rename = "memory.limit")]
    MemoryLimit,
    #[serde(rename = "memory.leak")]
    MemoryLeak,
    #[serde(rename = "cpu.throttled")]
    CpuThrottled,
    #[serde(rename = "cpu.contention")]
    CpuContention,
    #[serde(rename = "lock.contention")]
    LockContention,
    #[serde(rename = "deadlock")]
    Deadlock,
    #[serde(rename = "process.frozen")]
    ProcessFrozen,
    #[serde(rename = "process.crash_loop")]
    ProcessCrashLoop,
    #[serde(rename = "port.in_use")]
    PortInUse,
    #[serde(rename = "port.exhausted")]
    PortExhausted,
    #[serde(rename = "request.flood")]
    RequestFlood,
    #[serde(rename = "cpu.miner")]
    CpuMiner,
    #[serde(rename = "exec.unexpected")]
    ExecUnexpected,
    #[serde(rename = "config.regression")]
    ConfigRegression,
    #[serde(rename = "unknown")]
    #[default]
    Unknown,
}

/// The fixed name that a class or state is serialised under: `dependency.refused`, `confirmed`.
pub fn name(variant: impl Serialize) -> String {
    match serde_json::to_value(variant) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IncidentState {
    Suspected,
    Confirmed,
    Resolved,
}

/// One change of state of one incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// Stable over the incident's life; unique per sidecar run (16 hex digits).
    pub incident_id: String,
    pub state: IncidentState,
    pub class: FaultClass,
    /// 0…1.
    pub confidence: f64,
    /// At most three, best first; the first is `class`.
    pub hypotheses: Vec<Hypothesis>,
    pub container: ContainerIndex,
    pub container_name: String,
    pub pid: u32,
    pub tid: u32,
    pub executable: String,
    /// What is at fault, as a person would name it: `api → 127.0.0.1:6379`, `/data/orders.log`.
    pub culprit: String,
    /// First affected call.
    pub onset_ns: Nanos,
    /// When this was decided.
    pub observed_ns: Nanos,
    /// End of the fault, when resolved.
    pub ended_ns: Option<Nanos>,
    pub affected_calls: u64,
    /// One sentence for a person.
    pub message: String,
    /// Lines that a person can check: `connect ECONNREFUSED 0 → 38/s (baseline 0 of 12 400)`.
    pub evidence: Vec<String>,
    /// The run of calls that the pattern's model expected.
    pub expected: Vec<String>,
    /// The run of calls that came.
    pub actual: Vec<String>,
    /// True when the cause lies in this container, false when in something it depends on.
    pub local: bool,
    /// One next check.
    pub suggestion: String,
    pub pattern_id: Option<u32>,
    pub stability: Option<f64>,
    /// The affected process is ending (severity FATAL).
    pub dying: bool,
    /// Share of calls lost in the incident's own span of time.
    pub loss_ratio: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hypothesis {
    pub class: FaultClass,
    pub confidence: f64,
}

/// One affected call: what a span is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AffectedCall {
    pub incident_id: String,
    pub container: ContainerIndex,
    pub pid: u32,
    pub tid: u32,
    pub fd: i32,
    pub start_ns: Nanos,
    pub end_ns: Nanos,
    /// `connect:ECONNREFUSED`.
    pub token: String,
}

/// What diagnosis emits, in order. An affected call comes with or after its incident's first
/// `Diagnosis` and before its `Resolved`.
#[derive(Clone, Debug, PartialEq)]
// Reports are few and are moved once, to export.
#[allow(clippy::large_enum_variant)]
pub enum Report {
    Diagnosis(Diagnosis),
    Affected(AffectedCall),
}
