//! Calls that stand in threads' slots, read in place.

use stethos_events::{CallRecord, WindowHeader};

use super::{Reader, in_place};
use crate::{
    capture::pod::SlotRef,
    record::{Nanos, Record},
};

/// Calls that stand in a slot this long are handed on without waiting for the window's end.
const PEEK_AFTER_NS: u64 = 50_000_000;

impl Reader {
    /// Hands on the calls that have stood in a slot for a while at `before_ns`, when the rings were about
    /// to be read. A thread that called later may have left a window in its ring that was not read, and
    /// which would come after what is read here.
    pub(super) fn standing(&mut self, before_ns: Nanos, out: &mut Vec<Record>) {
        let standing: Vec<_> = self
            .pod
            .slots
            .taken()
            .filter(|slot| stands(&slot.last(), before_ns))
            .filter_map(|slot| standing_calls(slot, &self.in_place, before_ns))
            .collect();
        for (header, calls) in standing {
            self.window(&header, &calls, out);
        }
    }
}

/// Whether a thread's last call returned a while before `before_ns`.
fn stands(last: &CallRecord, before_ns: Nanos) -> bool {
    last.exit_ns.saturating_add(PEEK_AFTER_NS) < before_ns
}

/// The calls of an unfinished window that were not handed on yet. The slot is read twice: only if
/// no window ended between the reads are the calls of the first one whole.
pub(super) fn standing_calls(
    slot: SlotRef<'_>,
    in_place: &in_place::InPlace,
    before_ns: Nanos,
) -> Option<(WindowHeader, Vec<CallRecord>)> {
    let header = slot.header();
    let count = header.count as usize;
    let told = in_place.handed(&header) >= count;
    // What is familiar so far may still be only counted.
    if count == 0 || told || header.end != 0 || slot.strange() == 0 {
        return None;
    }
    let calls = slot.calls(count);
    let stands = calls.last().is_some_and(|last| stands(last, before_ns));
    let again = slot.header();
    let same =
        again.tid == header.tid && again.sequence == header.sequence && again.count >= header.count;
    (same && stands && calls.len() == count).then_some((header, calls))
}
