//! The maps of one pod, as they are made.

use aya::maps::MapData;
use stethos_events::{
    BANK_SLOTS, COUNT_ROWS, CountRow, DESCRIPTORS, DescriptorEntry, FAMILIAR_ENTRIES,
    FamiliarEntry, HEADS, KeptHead, Reduction, ThreadSlot,
};

use super::{
    KernelError,
    error::map_error,
    tables::{Access, array, descriptor, ring},
};
use crate::capture::{inner_maps, pod::PodMaps};

/// Capacities of one pod.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    pub window_ring_bytes: u32,
    pub event_ring_bytes: u32,
    /// Threads at a time; rounded up to a power of two of banks of `BANK_SLOTS`.
    pub threads: u32,
}

impl Capacity {
    pub fn banks(self) -> u32 {
        self.threads
            .div_ceil(BANK_SLOTS as u32)
            .max(1)
            .next_power_of_two()
    }
}

/// The maps of one pod in maps of maps under its index: name of the map of maps, and of the pin.
pub(super) const OF_POD: [(&str, &str); 7] = [
    ("WINDOWS", "windows"),
    ("EVENTS", "events"),
    ("FAMILIAR", "familiar"),
    ("REDUCTION", "reduction"),
    ("COUNTS", "counts"),
    ("DESCRIPTORS_OF", "descriptors"),
    ("HEADS_OF", "heads"),
];

/// New maps of one pod.
pub(super) struct NewMaps {
    /// In the order of `OF_POD`.
    pub(super) of_pod: [MapData; OF_POD.len()],
    pub(super) banks: Vec<MapData>,
    processors: u32,
}

impl NewMaps {
    pub(super) fn make(capacity: Capacity) -> Result<Self, KernelError> {
        let processors = super::processors()?;
        let rows = processors * COUNT_ROWS as u32;
        let bank = || array::<ThreadSlot>("stethos_slots", BANK_SLOTS as u32, Access::Read, 0);
        Ok(Self {
            of_pod: [
                ring("stethos_windows", capacity.window_ring_bytes)?,
                ring("stethos_events", capacity.event_ring_bytes)?,
                array::<FamiliarEntry>("stethos_known", FAMILIAR_ENTRIES as u32, Access::Write, 0)?,
                array::<Reduction>("stethos_reduce", 1, Access::Write, 0)?,
                array::<CountRow>("stethos_counts", rows, Access::Read, inner_maps::SIZED)?,
                array::<DescriptorEntry>("stethos_fds", DESCRIPTORS as u32, Access::Write, 0)?,
                array::<KeptHead>("stethos_heads", HEADS as u32, Access::Read, 0)?,
            ],
            banks: (0..capacity.banks())
                .map(|_| bank())
                .collect::<Result<_, _>>()?,
            processors,
        })
    }

    pub(super) fn id(&self) -> Result<u32, KernelError> {
        let info = self.of_pod[0].info();
        Ok(info.map_err(|source| map_error("WINDOWS", source))?.id())
    }

    /// Descriptors for the sidecar.
    pub(super) fn handed_out(&self, capacity: Capacity) -> Result<PodMaps, KernelError> {
        let [
            windows,
            events,
            familiar,
            reduction,
            counts,
            followed,
            heads,
        ] = &self.of_pod;
        Ok(PodMaps {
            windows: descriptor(windows)?,
            window_ring_bytes: capacity.window_ring_bytes,
            events: descriptor(events)?,
            event_ring_bytes: capacity.event_ring_bytes,
            banks: self
                .banks
                .iter()
                .map(descriptor)
                .collect::<Result<_, _>>()?,
            familiar: descriptor(familiar)?,
            reduction: descriptor(reduction)?,
            counts: descriptor(counts)?,
            followed: descriptor(followed)?,
            heads: descriptor(heads)?,
            processors: self.processors,
        })
    }
}
