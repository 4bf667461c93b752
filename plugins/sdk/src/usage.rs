//! What a container does, as the host tells it.

pub use crate::bindings::exports::stethos::plugin::plugin::{Role, Turns, Usage, UsageCall};

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
