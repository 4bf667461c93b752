//! Live capture of a test's cgroup, and what it delivered.
#![allow(clippy::unwrap_used, reason = "a step that fails ends the test")]

use std::{collections::BTreeMap, time::Duration};

use stethos::{
    capture::{self, Live, Settings, kernel::Capacity, targets::Target},
    record::{Account, Call, CallWindow, ContainerIndex, Record},
};
use syscalls::Sysno;

use crate::cgroup::{Cgroup, Stepped};

/// Rings of `ring` bytes, room for `threads`, read every `poll_ms`.
pub fn settings(ring: u32, threads: u32, poll_ms: u64) -> Settings {
    Settings {
        capacity: Capacity {
            window_ring_bytes: ring,
            event_ring_bytes: 1 << 20,
            threads,
        },
        poll_interval: Duration::from_millis(poll_ms),
        snapshot_interval: Duration::from_millis(100),
        http: true,
    }
}

pub fn start(cgroup: &Cgroup, settings: Settings) -> Live {
    capture::start(&[Target::Cgroup(cgroup.path().to_owned())], settings).unwrap()
}

/// What is delivered until the program has done its part, and all that is left then.
pub fn until_done(mut live: Live, program: Stepped) -> Vec<Record> {
    let mut records = Vec::new();
    while program.is_busy() {
        while let Ok(batch) = live.records.try_recv() {
            records.extend(batch);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    program.finish().unwrap();
    records.extend(finish(live));
    records
}

/// Stops the capture and gives everything that it delivered.
pub fn finish(mut live: Live) -> Vec<Record> {
    stop(&mut live)
}

/// The same, with the mappings left to look at.
pub fn stop(live: &mut Live) -> Vec<Record> {
    // Slots are read once they stood for 50 ms; snapshots are 100 ms apart.
    std::thread::sleep(Duration::from_millis(400));
    live.stop.ask();
    let mut all = Vec::new();
    while let Some(batch) = live.records.blocking_recv() {
        all.extend(batch);
    }
    all
}

pub fn windows(records: &[Record]) -> impl Iterator<Item = &CallWindow> {
    records.iter().filter_map(|record| match record {
        Record::Window(window) => Some(window),
        _ => None,
    })
}

pub fn by_thread(records: &[Record]) -> BTreeMap<u32, Vec<Call>> {
    let mut threads: BTreeMap<u32, Vec<Call>> = BTreeMap::new();
    for window in windows(records) {
        assert_eq!(window.lost_before, 0);
        threads.entry(window.tid).or_default().extend(&window.calls);
    }
    threads
}

pub fn last_accounts(records: &[Record]) -> BTreeMap<ContainerIndex, Account> {
    let tick = records.iter().rev().find_map(|record| match record {
        Record::Tick(tick) => Some(tick.accounts.iter().copied().collect()),
        _ => None,
    });
    tick.unwrap()
}

pub fn is(call: &Call, sysno: Sysno) -> bool {
    i32::from(call.nr) == sysno.id()
}

impl Checked for Account {
    fn accounted(&self) -> u64 {
        self.delivered + self.counted + self.held + self.lost()
    }
}

/// What an account adds up to.
pub trait Checked {
    /// All that became of the calls that were seen.
    fn accounted(&self) -> u64;
}
