//! What a container does, as the contract has it.

use stethos_patterns::{Role as PatternRole, usage};

use super::contract::{Role, Turns, Usage, UsageCall};

impl From<&usage::Usage> for Usage {
    fn from(usage: &usage::Usage) -> Self {
        let calls = usage.rows.iter().map(|row| UsageCall {
            call: row.call.clone(),
            role: role(row.role),
            failed: row.failed,
            calls: row.calls,
            bytes: row.bytes,
        });
        Usage {
            processes: usage.processes,
            threads: usage.threads,
            calls: calls.collect(),
            served: turns(&usage.served),
            used: turns(&usage.used),
            http_served: usage.http_served,
            http_used: usage.http_used,
            executables: usage.executables.clone(),
        }
    }
}

fn turns(turns: &usage::Turns) -> Turns {
    Turns {
        reads: turns.reads,
        further_reads: turns.further_reads,
        returning_reads: turns.returning_reads,
        writes: turns.writes,
        further_writes: turns.further_writes,
        returning_writes: turns.returning_writes,
    }
}

fn role(role: PatternRole) -> Role {
    match role {
        PatternRole::None => Role::None,
        PatternRole::File => Role::File,
        PatternRole::Client => Role::Client,
        PatternRole::Server => Role::Server,
        PatternRole::Listener => Role::Listener,
        PatternRole::Other => Role::Other,
    }
}
