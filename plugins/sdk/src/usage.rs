//! What a container does, as the host tells it.

use crate::bindings::exports::stethos::plugin::plugin as contract;

pub use contract::Role;

/// What a container did in normal times, for half a minute and more.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// Processes and threads that made calls.
    pub processes: u32,
    pub threads: u32,
    pub calls: Vec<UsageCall>,
    /// On connections that were accepted.
    pub served: Turns,
    /// On connections that were made.
    pub used: Turns,
    /// HTTP/1 requests that came in.
    pub http_served: u64,
    /// HTTP/1 requests that were made.
    pub http_used: u64,
    /// Programs that ran, by path or name.
    pub executables: Vec<String>,
}

/// Calls of one kind.
#[derive(Clone, Debug)]
pub struct UsageCall {
    /// `read`, `openat`, …
    pub call: String,
    /// What they worked on.
    pub role: Role,
    /// Whether they failed for good.
    pub failed: bool,
    pub calls: u64,
    /// Bytes that reads and writes moved.
    pub bytes: u64,
}

/// Reads and writes of connections by what came before them on the same connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turns {
    /// Reads that follow a write, or begin.
    pub reads: u64,
    /// Reads that follow a read, and of these the ones between which the thread turned to another
    /// connection.
    pub further_reads: u64,
    pub returning_reads: u64,
    /// Writes that follow a read, or begin.
    pub writes: u64,
    /// Writes that follow a write, and of these the ones between which the thread turned to another
    /// connection.
    pub further_writes: u64,
    pub returning_writes: u64,
}

impl Turns {
    /// All reads and writes.
    pub fn all(&self) -> u64 {
        let parts = [
            self.reads,
            self.further_reads,
            self.writes,
            self.further_writes,
        ];
        parts.iter().fold(0, |all, part| all.saturating_add(*part))
    }
}

impl From<contract::Turns> for Turns {
    fn from(turns: contract::Turns) -> Self {
        Turns {
            reads: turns.reads,
            further_reads: turns.further_reads,
            returning_reads: turns.returning_reads,
            writes: turns.writes,
            further_writes: turns.further_writes,
            returning_writes: turns.returning_writes,
        }
    }
}

impl From<contract::Usage> for Usage {
    fn from(usage: contract::Usage) -> Self {
        let calls = usage.calls.into_iter();
        Usage {
            processes: usage.processes,
            threads: usage.threads,
            calls: calls
                .map(|one| UsageCall {
                    call: one.call,
                    role: one.role,
                    failed: one.failed,
                    calls: one.calls,
                    bytes: one.bytes,
                })
                .collect(),
            served: usage.served.into(),
            used: usage.used.into(),
            http_served: usage.http_served,
            http_used: usage.http_used,
            executables: usage.executables,
        }
    }
}
