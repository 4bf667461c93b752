//! Events of several inputs, as the records of one recording.
//!
//! All inputs are one container, so that they are learned from together. A process number is given
//! to one process of one input alone: where inputs have the same, the later ones get numbers beyond
//! those of Linux. Threads keep theirs. An input without thread numbers is one thread of one
//! process, and both have the number that was given.
//!
//! Inputs with Unix times stand side by side; those that only have times of their own follow one
//! another. A process whose end an input does not show ends, with code 0, where the input ends.

mod streams;

use std::collections::HashSet;

use stethos_patterns::names::{self, CallTable};

use self::streams::{Item, Streams};
use super::{Arch, CAPTURE_MODE, Event, Format, Trace};
use crate::record::{Account, ContainerInfo, Header, Nanos, Record, Tick};

/// Linux numbers processes up to here.
pub(super) const MAX_PID: u32 = 1 << 22;
/// Between inputs that follow one another: enough to end units of work.
const PAUSE_NS: Nanos = 500_000_000;
const SECOND: Nanos = 1_000_000_000;
/// In a longer pause there are no ticks.
const MAX_PAUSE_NS: Nanos = 10 * SECOND;

/// The recording in the making.
pub struct Assembly {
    header: Header,
    container: String,
    table: &'static CallTable,
    items: Vec<Item>,
    numbers: Numbers,
    end_ns: Nanos,
    calls: usize,
}

/// Process numbers that are in use.
#[derive(Default)]
struct Numbers {
    used: HashSet<u32>,
    given: u32,
}

impl Numbers {
    fn give(&mut self, wanted: Option<u32>) -> u32 {
        if let Some(pid) = wanted.filter(|pid| (1..=MAX_PID).contains(pid))
            && self.used.insert(pid)
        {
            return pid;
        }
        self.given += 1;
        MAX_PID.saturating_add(self.given)
    }
}

impl Assembly {
    pub fn new(format: Format, arch: Arch, container: &str) -> Self {
        Assembly {
            header: Header {
                arch: arch.name().to_owned(),
                kernel: String::new(),
                unix_offset_ns: 0,
                capture_mode: CAPTURE_MODE.to_owned(),
                target: format.name().to_owned(),
            },
            container: container.to_owned(),
            table: names::table(arch.name()),
            items: Vec::new(),
            numbers: Numbers::default(),
            end_ns: 0,
            calls: 0,
        }
    }

    /// Calls of all inputs so far.
    pub fn calls(&self) -> usize {
        self.calls
    }

    /// Adds an input. `name` is what its sequences are called after.
    pub fn add(&mut self, name: &str, trace: Trace) {
        let times = || trace.events.iter().map(Event::start_ns);
        let (Some(first), Some(last)) = (
            times().min(),
            trace.events.iter().map(|event| event.at_ns).max(),
        ) else {
            return;
        };
        let begin = match trace.dated {
            true => first,
            false => self.end_ns.saturating_add(PAUSE_NS),
        };
        let mut streams = Streams::new(name, self.table, &mut self.numbers, &trace.processes);
        for mut event in trace.events {
            event.shift(begin.wrapping_sub(first));
            streams.take(event);
        }
        let end_ns = last.wrapping_add(begin.wrapping_sub(first));
        let (items, calls) = streams.finish(end_ns);
        self.items.extend(items);
        self.calls += calls;
        self.end_ns = self.end_ns.max(end_ns);
    }

    /// All records in order, with a tick for every second in which something happens.
    pub fn finish(mut self) -> (Header, Vec<Record>) {
        self.items.sort_by_key(|item| (item.at_ns, item.rank));
        let start_ns = self.items.first().map_or(0, |item| item.at_ns);
        let mut records = vec![Record::Container(ContainerInfo {
            at_ns: start_ns,
            container: 0,
            name: self.container,
            id: None,
            cgroup_path: String::new(),
            image: None,
            image_digest: None,
        })];
        let mut ticks = Ticks {
            next_ns: start_ns.saturating_add(SECOND),
            calls: 0,
        };
        for item in self.items {
            ticks.until(item.at_ns, &mut records);
            if let Record::Window(window) = &item.record {
                ticks.calls += window.calls.len() as u64;
            }
            records.push(item.record);
        }
        ticks.one(&mut records);
        (self.header, records)
    }
}

struct Ticks {
    next_ns: Nanos,
    calls: u64,
}

impl Ticks {
    fn until(&mut self, now_ns: Nanos, records: &mut Vec<Record>) {
        while self.next_ns <= now_ns {
            let pause_ns = now_ns - self.next_ns;
            self.one(records);
            if pause_ns > MAX_PAUSE_NS {
                self.next_ns = now_ns;
            }
        }
    }

    fn one(&mut self, records: &mut Vec<Record>) {
        let account = Account {
            seen: self.calls,
            delivered: self.calls,
            ..Account::default()
        };
        records.push(Record::Tick(Tick {
            at_ns: self.next_ns,
            accounts: vec![(0, account)],
            skipped_recursion: 0,
        }));
        self.next_ns = self.next_ns.saturating_add(SECOND);
    }
}

#[cfg(test)]
mod tests;
