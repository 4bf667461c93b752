//! How processes serve requests: whether threads take over from each other.

use std::collections::HashMap;

const MAX_PROCESSES: usize = 16_384;
/// A process that has answered so many requests on the threads that read them, and none on another one, does
/// not move them.
pub(super) const SETTLED: u64 = 200;

/// What is known of a process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Serving {
    /// It answered a request on another thread than the one that read it.
    pub(super) migrates: bool,
    /// Requests that it answered on the thread that read them.
    pub(super) answered: u64,
    /// A thread of it waits for whichever of several things happens first.
    pub(super) waits_for_many: bool,
}

#[derive(Debug, Default)]
pub(super) struct Processes(HashMap<u32, Serving>);

impl Processes {
    pub(super) fn of(&mut self, pid: u32) -> &mut Serving {
        if self.0.len() >= MAX_PROCESSES && !self.0.contains_key(&pid) {
            self.0.clear();
        }
        self.0.entry(pid).or_default()
    }

    /// The id is another process's, or the process executes another program.
    pub(super) fn forget(&mut self, pid: u32) {
        self.0.remove(&pid);
    }

    /// Whether the process may go on with a request on another thread than the one that read it.
    pub(super) fn may_migrate(&self, pid: u32) -> bool {
        let Some(serving) = self.0.get(&pid) else {
            return false;
        };
        let unsure = serving.waits_for_many && serving.answered < SETTLED;
        serving.migrates || unsure
    }
}
