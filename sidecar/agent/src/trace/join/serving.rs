//! How processes serve requests: whether threads take over from each other.

use std::collections::HashMap;

use super::timeline::Line;

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
    answered: u64,
    /// It was seen what its threads call.
    looked_at: bool,
    loops: Loops,
    /// It answers requests of HTTP/2: who writes the answer is not who made it, as all streams of a connection
    /// are written by one.
    streams: bool,
}

/// Threads that wait for whichever of several things happens first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Loops {
    #[default]
    None,
    One(u32),
    Several,
}

impl Serving {
    /// The thread waits for many things, or not as far as was seen.
    pub(super) fn look(&mut self, tid: u32, waits_for_many: bool) {
        self.looked_at = true;
        if waits_for_many {
            self.loops = match self.loops {
                Loops::None => Loops::One(tid),
                Loops::One(other) if other == tid => Loops::One(tid),
                Loops::One(_) | Loops::Several => Loops::Several,
            };
        }
    }

    /// It answered a request on the thread that read it.
    pub(super) fn answer(&mut self, line: Line) {
        self.answered += 1;
        self.streams |= line.1 != 0;
    }

    fn may_migrate(self) -> bool {
        let settled = self.answered >= SETTLED;
        self.migrates
            || match self.loops {
                Loops::None => !self.looked_at && !settled,
                Loops::One(_) => !settled,
                Loops::Several => !settled || self.streams,
            }
    }
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

    /// Whether threads of the process wait for many things at once: they may hand work to others.
    pub(super) fn waits_for_many(&self, pid: u32) -> bool {
        let serving = self.0.get(&pid);
        serving.is_some_and(|serving| serving.loops != Loops::None)
    }

    /// Whether the process may go on with a request on another thread than the one that read it.
    pub(super) fn may_migrate(&self, pid: u32) -> bool {
        self.0.get(&pid).copied().unwrap_or_default().may_migrate()
    }
}
