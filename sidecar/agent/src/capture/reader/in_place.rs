//! What was read of unfinished windows in their slots, so that it is not delivered again when the
//! windows come.

use std::collections::{HashMap, HashSet};

use stethos_events::WindowHeader;

use crate::record::ContainerIndex;

/// Calls of unfinished windows that were handed on.
#[derive(Default)]
pub(super) struct InPlace {
    threads: HashMap<u32, Handed>,
    /// The ring of windows was read to its end since the threads were last looked at.
    emptied: bool,
}

/// How much of a thread's unfinished window was handed on.
struct Handed {
    container: ContainerIndex,
    sequence: u64,
    calls: usize,
    /// The thread was not found any more; its last window may still be in the ring.
    gone: bool,
}

/// Calls whose window never came: the kernel counts them as lost, but they were handed on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rescued {
    pub(super) container: ContainerIndex,
    pub(super) calls: u64,
}

impl InPlace {
    /// How many calls of this window, which still stands in its slot, were handed on.
    pub(super) fn handed(&self, header: &WindowHeader) -> usize {
        let handed = self.threads.get(&header.tid);
        handed
            .filter(|handed| handed.sequence == header.sequence)
            .map_or(0, |handed| handed.calls)
    }

    /// Takes a window with this many calls, which is unfinished when it was read in its slot. Gives
    /// how many of its calls were handed on before, and what was of a window before it that will not
    /// come any more.
    pub(super) fn window(
        &mut self,
        header: &WindowHeader,
        container: ContainerIndex,
        calls: usize,
    ) -> (usize, Option<Rescued>) {
        let (mut before, mut rescued) = (0, None);
        match self.threads.remove(&header.tid) {
            Some(handed) if handed.sequence == header.sequence => before = handed.calls,
            Some(handed) if handed.sequence < header.sequence => rescued = Some(handed.rescued()),
            // A window before the one that was read in place comes late.
            Some(handed) => {
                self.threads.insert(header.tid, handed);
            }
            None => {}
        }
        if header.end == 0 {
            let handed = Handed {
                container,
                sequence: header.sequence,
                calls,
                gone: false,
            };
            self.threads.insert(header.tid, handed);
        }
        (before, rescued)
    }

    /// Everything that was in the ring of windows has been read.
    pub(super) fn emptied(&mut self) {
        self.emptied = true;
    }

    /// Takes the threads that are there now. A window whose thread is gone, and which was not in the
    /// ring when that was read to its end after, will not come.
    pub(super) fn present(&mut self, tids: &HashSet<u32>) -> Vec<Rescued> {
        let emptied = std::mem::take(&mut self.emptied);
        let mut all = Vec::new();
        self.threads.retain(|tid, handed| {
            let is_gone = !tids.contains(tid);
            let lost = is_gone && handed.gone && emptied;
            handed.gone = is_gone;
            if lost {
                all.push(handed.rescued());
            }
            !lost
        });
        all
    }

    pub(super) fn clear(&mut self) {
        self.threads.clear();
    }
}

impl Handed {
    fn rescued(&self) -> Rescued {
        Rescued {
            container: self.container,
            calls: self.calls as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use stethos_events::end;

    use super::*;

    fn header(sequence: u64, end: u32) -> WindowHeader {
        WindowHeader {
            tid: 7,
            sequence,
            end,
            ..WindowHeader::default()
        }
    }

    fn tids(tids: &[u32]) -> HashSet<u32> {
        tids.iter().copied().collect()
    }

    const FOUR: Rescued = Rescued {
        container: 0,
        calls: 4,
    };

    #[test]
    fn what_was_read_in_place_is_not_delivered_again() {
        let mut place = InPlace::default();
        assert_eq!(place.window(&header(3, 0), 0, 4), (0, None));
        assert_eq!(place.handed(&header(3, 0)), 4);
        assert_eq!(place.window(&header(3, 0), 0, 6), (4, None));
        // The window before it was still in the ring.
        assert_eq!(place.window(&header(2, end::FULL), 0, 64), (0, None));
        assert_eq!(place.window(&header(3, end::WAIT), 0, 9), (6, None));
        assert_eq!(place.window(&header(4, end::WAIT), 0, 9), (0, None));
    }

    #[test]
    fn a_window_that_the_ring_refused_never_comes() {
        let mut place = InPlace::default();
        place.window(&header(3, 0), 0, 4);
        assert_eq!(place.window(&header(4, end::FULL), 0, 64), (0, Some(FOUR)));
    }

    #[test]
    fn a_thread_that_is_gone_is_waited_for_until_the_ring_was_read_to_its_end() {
        let mut place = InPlace::default();
        place.window(&header(3, 0), 0, 4);
        place.emptied();
        assert_eq!(place.present(&tids(&[7])), []);
        place.emptied();
        assert_eq!(place.present(&tids(&[])), []);
        // A record before it is still being written.
        assert_eq!(place.present(&tids(&[])), []);
        assert_eq!(place.present(&tids(&[])), []);
        assert_eq!(place.window(&header(3, end::THREAD_EXIT), 0, 5), (4, None));
        place.emptied();
        assert_eq!(place.present(&tids(&[])), []);

        place.window(&header(3, 0), 0, 4);
        assert_eq!(place.present(&tids(&[])), []);
        place.emptied();
        assert_eq!(place.present(&tids(&[])), [FOUR]);
        assert_eq!(place.handed(&header(3, 0)), 0);
    }
}
