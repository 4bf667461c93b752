//! Descriptors that are opened and never closed.
//!
//! A new descriptor has the lowest number that is free: the median of the numbers that a second's
//! calls were given says how many are open. With load it rises once; where descriptors leak it
//! climbs from second to second, beyond twice the highest number that learning saw in use, times the
//! load where that is higher than learned. Single numbers say less: one that was just closed is given
//! out again.

use std::collections::BTreeMap;

use stethos_patterns::descriptors::{Action, action};
use stethos_patterns::names::{CallKind, CallTable};
use stethos_patterns::{Outcome, WindowCall};

use crate::diagnosis::signal::{Kind, Normal, Place, Signal, Standing};
use crate::diagnosis::signals::climb::Climb;
use crate::diagnosis::signals::{MAX_KEYS, RESTLESS, Scene};

/// Other clients keep more connections: so many times the highest number of learning, and at least so
/// many more, are no leak yet.
const OTHER_CLIENTS: f64 = 2.0;
const SOME_CLIENTS: u64 = 32;

#[derive(Debug, Default)]
pub(crate) struct Descriptors {
    processes: BTreeMap<u32, Opened>,
}

#[derive(Debug)]
struct Opened {
    climb: Climb,
    /// Since it began to climb.
    opened: u64,
    closed: u64,
}

impl Descriptors {
    /// Judges one finished call.
    pub(crate) fn judge(&mut self, scene: &Scene<'_>, call: &WindowCall) -> Option<Signal> {
        if scene.reduced || call.token.outcome != Outcome::Ok {
            return None;
        }
        if scene.table.is_close(call.token.call) {
            if let Some(process) = self.processes.get_mut(&scene.pid) {
                process.closed += 1;
            }
            return None;
        }
        let number = u64::try_from(call.ret).ok()?;
        let model = scene
            .model
            .filter(|_| opens(scene.table, call.token.call))?;
        let full = self.processes.len() >= MAX_KEYS;
        if full && !self.processes.contains_key(&scene.pid) {
            return None;
        }
        let process = self.processes.entry(scene.pid).or_insert_with(|| Opened {
            climb: Climb::new(call.end_ns(), number),
            opened: 0,
            closed: 0,
        });
        process.opened += 1;
        let climbed = process.climb.observe(call.end_ns(), number);
        let (opened, closed) = (process.opened, process.closed);
        if process.climb.evidence() == 0.0 {
            (process.opened, process.closed) = (0, 0);
        }
        let climbed = climbed?;
        let learned = model.highest_descriptor()?;
        let usual = (learned as f64 * OTHER_CLIENTS * scene.load.max(1.0)) as u64;
        let usual = usual.max(learned.saturating_add(SOME_CLIENTS));
        if climbed.now <= usual || opened <= closed || climbed.evidence < scene.limit {
            return None;
        }
        let place = Place {
            start_ns: climbed.since_ns,
            ..scene.place(call)
        };
        let normal = Normal::Climb {
            learned,
            from: climbed.from,
            now: climbed.now,
            taken: opened,
            given: closed,
        };
        let kind = Kind::DescriptorLeak { pid: scene.pid };
        let signal = Signal::at(place, kind, scene.table.token_name(&call.token)).against(normal);
        Some(signal.standing(Standing::Opens, climbed.evidence.min(12.0)))
    }

    pub(crate) fn forget(&mut self, pid: u32) {
        self.processes.remove(&pid);
    }

    pub(crate) fn restless(&self) -> bool {
        let mut climbs = self.processes.values().map(|opened| &opened.climb);
        climbs.any(|climb| climb.evidence() > RESTLESS)
    }

    /// What follows was not seen whole.
    pub(crate) fn rest(&mut self) {
        self.processes.clear();
    }
}

/// True for a call that gives a new descriptor.
pub(crate) fn opens(table: &CallTable, nr: u16) -> bool {
    match table.kind(nr) {
        CallKind::Open | CallKind::Accept => true,
        CallKind::Socket | CallKind::Other | CallKind::Memory | CallKind::Process => {
            matches!(action(table, nr), Action::Make(_) | Action::Duplicate)
        }
        _ => false,
    }
}
