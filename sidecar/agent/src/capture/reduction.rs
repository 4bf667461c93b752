//! Reduction in the kernel, as the sidecar steers it: which contexts of a pod are familiar, how many
//! windows of familiar calls are shipped all the same, and what was counted.

use std::{
    collections::{BTreeMap, HashMap},
    os::fd::{AsFd as _, OwnedFd},
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use memmap2::{MmapOptions, MmapRaw};
use stethos_events::{
    COUNT_CLASSES, COUNT_ROWS, CountRow, FAMILIAR_ENTRIES, FAMILIAR_PROBES, FamiliarEntry,
    Reduction, context_key, token,
};

use super::pod::{MappingError, PodMaps, page_size};

/// A kind of call of one container: the call's number and outcome as `stethos_events::token`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    pub cgroup: u64,
    pub token: u16,
}

/// The last tokens of a thread, as the kernel keeps them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ContextTokens(u64);

impl ContextTokens {
    /// The context after one more call.
    #[must_use]
    pub fn after(self, nr: u16, ret: i64) -> Self {
        Self(self.0 << 16 | u64::from(token(nr, ret)))
    }

    fn last(self) -> u16 {
        self.0 as u16
    }
}

/// Why a context could not be made familiar; its calls are then shipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// The table has no entry left where the context belongs.
    Table,
    /// `COUNT_ROWS` kinds of calls have rows.
    Rows,
}

/// What was counted of one kind of call since the pod's start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    pub calls: u64,
    pub waited_ns: u64,
    /// Calls by duration class.
    pub classes: Vec<u64>,
}

/// The sidecar's side of the reduction of its pod.
pub struct Reducer {
    familiar: MmapRaw,
    reduction: MmapRaw,
    counts: MmapRaw,
    processors: usize,
    rows: HashMap<Kind, u32>,
}

impl Reducer {
    pub fn map(maps: &PodMaps) -> Result<Self, MappingError> {
        let processors = maps.processors as usize;
        let counts = size_of::<CountRow>() * COUNT_ROWS * processors;
        Ok(Self {
            familiar: mapped(
                &maps.familiar,
                size_of::<FamiliarEntry>() * FAMILIAR_ENTRIES,
            )?,
            reduction: mapped(&maps.reduction, size_of::<Reduction>())?,
            counts: MmapOptions::new()
                .len(counts.next_multiple_of(page_size()))
                .map_raw_read_only(&maps.counts.as_fd())
                .map_err(failed)?,
            processors,
            rows: HashMap::new(),
        })
    }

    /// Makes a context familiar in a container, up to durations of class `ceiling`. A context that
    /// is familiar already gets the new ceiling.
    pub fn learn(
        &mut self,
        cgroup: u64,
        context: ContextTokens,
        ceiling: u8,
    ) -> Result<(), NoRoom> {
        let key = context_key(context.0, cgroup);
        let entry = (0..FAMILIAR_PROBES as u64)
            .map(|probe| (key.wrapping_add(probe) & (FAMILIAR_ENTRIES as u64 - 1)) as usize)
            .map(|at| self.entry(at))
            .find(|entry| [0, key].contains(&entry.key.load(Ordering::Relaxed)))
            .ok_or(NoRoom::Table)?;
        let kind = Kind {
            cgroup,
            token: context.last(),
        };
        let next = self.rows.len() as u32;
        let row = match self.rows.get(&kind) {
            Some(row) => *row,
            None if next as usize == COUNT_ROWS => return Err(NoRoom::Rows),
            None => next,
        };
        entry.row.store(row, Ordering::Relaxed);
        entry.ceiling.store(u32::from(ceiling), Ordering::Relaxed);
        // The key comes last: the kernel reads the rest only where it finds it.
        entry.key.store(key, Ordering::Release);
        self.rows.insert(kind, row);
        Ok(())
    }

    /// Begins to reduce: of every `sample` familiar windows of a thread one is shipped.
    pub fn start(&self, sample: u32) {
        self.sample().store(sample.max(1), Ordering::Release);
    }

    /// Has every window shipped again.
    pub fn stop(&self) {
        self.sample().store(0, Ordering::Release);
    }

    /// What was counted so far, by kind of call.
    pub fn counted(&self) -> BTreeMap<Kind, Counted> {
        self.rows
            .iter()
            .map(|(kind, row)| (*kind, self.row(*row as usize)))
            .collect()
    }

    fn row(&self, row: usize) -> Counted {
        let mut sum = Counted {
            calls: 0,
            waited_ns: 0,
            classes: vec![0; COUNT_CLASSES],
        };
        let first = self.counts.as_ptr().cast::<CountRow>();
        for processor in 0..self.processors {
            // SAFETY: within the mapping, valid for any bytes; the kernel goes on writing.
            let part = unsafe { first.add(processor * COUNT_ROWS + row).read_volatile() };
            sum.calls += part.calls;
            sum.waited_ns = sum.waited_ns.wrapping_add(part.waited_ns);
            for (sum, part) in sum.classes.iter_mut().zip(part.classes) {
                *sum += u64::from(part);
            }
        }
        sum
    }

    fn entry(&self, at: usize) -> SharedEntry<'_> {
        // SAFETY: within the mapping; members are aligned and shared with the kernel alone.
        unsafe {
            let entry = self.familiar.as_mut_ptr().cast::<FamiliarEntry>().add(at);
            SharedEntry {
                key: AtomicU64::from_ptr(&raw mut (*entry).key),
                row: AtomicU32::from_ptr(&raw mut (*entry).row),
                ceiling: AtomicU32::from_ptr(&raw mut (*entry).ceiling),
            }
        }
    }

    fn sample(&self) -> &AtomicU32 {
        let reduction = self.reduction.as_mut_ptr().cast::<Reduction>();
        // SAFETY: within the mapping; shared with the kernel alone.
        unsafe { AtomicU32::from_ptr(&raw mut (*reduction).sample) }
    }
}

struct SharedEntry<'a> {
    key: &'a AtomicU64,
    row: &'a AtomicU32,
    ceiling: &'a AtomicU32,
}

fn mapped(map: &OwnedFd, bytes: usize) -> Result<MmapRaw, MappingError> {
    MmapOptions::new()
        .len(bytes.next_multiple_of(page_size()))
        .map_raw(&map.as_fd())
        .map_err(failed)
}

fn failed(source: std::io::Error) -> MappingError {
    MappingError::Map {
        what: "familiar contexts and counts",
        source,
    }
}
