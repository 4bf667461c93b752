//! What was refused: counted by cause, told a few times a minute.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Why a connection or a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Connections,
    Identity,
    Protocol,
    Version,
    Target,
    Seat,
    TooOften,
    Room,
    Silence,
}

const CAUSES: [(Cause, &str); 9] = [
    (Cause::Connections, "too many connections"),
    (Cause::Identity, "identity"),
    (Cause::Protocol, "protocol"),
    (Cause::Version, "version"),
    (Cause::Target, "target"),
    (Cause::Seat, "served already"),
    (Cause::TooOften, "too often"),
    (Cause::Room, "no room"),
    (Cause::Silence, "silence"),
];

/// A cause is told again after this.
const AGAIN: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Refusals {
    counts: [AtomicU64; CAUSES.len()],
    told: Mutex<[Option<(Instant, u64)>; CAUSES.len()]>,
}

impl Refusals {
    pub(super) fn count(&self, cause: Cause, peer: u32, reason: &str) {
        let index = cause as usize;
        let count = self.counts[index].fetch_add(1, Ordering::Relaxed) + 1;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, before) = match told[index] {
            Some((last, before)) => (Some(last), before),
            None => (None, 0),
        };
        if last.is_none_or(|last| last.elapsed() >= AGAIN) {
            told[index] = Some((Instant::now(), count));
            let cause = CAUSES[index].1;
            let times = count - before;
            tracing::warn!(cause, times, peer, reason, "refused");
        }
    }

    pub(super) fn counts(&self) -> Vec<(String, u64)> {
        CAUSES
            .iter()
            .map(|(cause, name)| {
                let count = self.counts[*cause as usize].load(Ordering::Relaxed);
                ((*name).to_owned(), count)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_is_counted_under_its_name() {
        let refusals = Refusals::default();
        for (index, (cause, _)) in CAUSES.iter().enumerate() {
            assert_eq!(*cause as usize, index);
            refusals.count(*cause, 1, "a reason");
        }
        assert!(refusals.counts().iter().all(|(_, count)| *count == 1));
    }
}
