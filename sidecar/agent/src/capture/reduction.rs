//! Reduction in the kernel, as the sidecar steers it: which contexts of a pod are familiar, how many
//! windows of familiar calls are shipped all the same, and what was counted.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    os::fd::{AsFd as _, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use memmap2::{MmapOptions, MmapRaw};
use stethos_events::{
    COUNT_CLASSES, COUNT_ROWS, CountRow, FAMILIAR_ENTRIES, FAMILIAR_PROBES, FamiliarEntry,
    Reduction, SERVICE_CONTEXT, context_key, exchange_context, token,
};

use super::{
    peers,
    pod::{MappingError, PodMaps, page_size},
};
use crate::record::{ContainerIndex, Nanos};

/// What is counted in one row, in a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    pub cgroup: u64,
    pub of: KindOf,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KindOf {
    /// Number and outcome as `stethos_events::token`.
    Call(u16),
    /// Answers of a peer.
    Answers(String),
    /// The container's own answers.
    Service,
}

/// The last tokens of a thread, as the kernel keeps them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ContextTokens(pub u64);

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

/// Why something could not be made familiar; it is then shipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// The table has no entry left where the context belongs.
    Table,
    /// `COUNT_ROWS` kinds have rows.
    Rows,
}

/// What was counted of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    pub calls: u64,
    pub waited_ns: u64,
    /// By duration class.
    pub classes: Vec<u64>,
}

/// The reducer as the reader and whoever steers it share it.
#[derive(Clone)]
pub struct SharedReducer(Arc<Mutex<Reducer>>);

impl SharedReducer {
    pub fn new(reducer: Reducer) -> Self {
        Self(Arc::new(Mutex::new(reducer)))
    }

    pub fn lock(&self) -> MutexGuard<'_, Reducer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Changes of reduction that wait to be told; what comes beyond is told as the last one.
const MAX_CHANGES: usize = 1024;

/// The sidecar's side of the reduction of its pod.
pub struct Reducer {
    maps: Mapped,
    rows: HashMap<Kind, u32>,
    /// Rows that had a kind before.
    free_rows: Vec<u32>,
    /// What stood in a row when its kind got it, where another had it before.
    before: HashMap<u32, Counted>,
    /// Rows are given back once what they counted was told.
    forgot: bool,
    /// What is familiar: row and ceiling by `context_key`.
    known: HashMap<u64, (u32, u8)>,
    /// Of so many familiar windows one is shipped, and since when.
    sample: (u32, Nanos),
    /// Changes of that which were not told yet.
    changes: Vec<(u32, Nanos)>,
    /// Counts that were told, by row.
    told: HashMap<u32, Counted>,
    containers: HashMap<ContainerIndex, u64>,
    /// Sockets that diagnosis wants to know about: process and descriptor.
    sockets: Vec<(u32, i32)>,
}

struct Mapped {
    familiar: MmapRaw,
    reduction: MmapRaw,
    counts: MmapRaw,
    processors: usize,
}

impl Mapped {
    fn new(maps: &PodMaps) -> Result<Self, MappingError> {
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
        })
    }
}

impl Reducer {
    pub fn map(maps: &PodMaps) -> Result<Self, MappingError> {
        Ok(Self {
            maps: Mapped::new(maps)?,
            rows: HashMap::new(),
            free_rows: Vec::new(),
            before: HashMap::new(),
            forgot: false,
            known: HashMap::new(),
            sample: (0, 0),
            changes: Vec::new(),
            told: HashMap::new(),
            containers: HashMap::new(),
            sockets: Vec::new(),
        })
    }

    /// The cgroup of a container.
    pub fn know(&mut self, container: ContainerIndex, cgroup: u64) {
        self.containers.insert(container, cgroup);
    }

    /// Has these sockets looked at from now on, until others are.
    pub fn look_at(&mut self, sockets: Vec<(u32, i32)>) {
        self.sockets = sockets;
    }

    pub fn looked_at(&self) -> &[(u32, i32)] {
        &self.sockets
    }

    pub fn cgroup(&self, container: ContainerIndex) -> Option<u64> {
        self.containers.get(&container).copied()
    }

    /// Goes on with new maps, in which counts begin again: what was familiar stays so.
    pub fn renew(&mut self, maps: &PodMaps) -> Result<(), MappingError> {
        self.maps = Mapped::new(maps)?;
        self.told.clear();
        self.before.clear();
        for (key, (row, ceiling)) in &self.known {
            // Empty tables have room for what had it before, in whatever order it comes: an
            // entry may still find none where others were in its way, and is then shipped.
            if let Some(at) = self.free(*key) {
                self.entry(at).set(*key, *row, *ceiling);
            }
        }
        self.sampling().store(self.sample.0, Ordering::Release);
        Ok(())
    }

    /// Makes a context familiar in a container, up to durations of class `ceiling`. A context that
    /// is familiar already gets the new ceiling.
    pub fn learn(
        &mut self,
        cgroup: u64,
        context: ContextTokens,
        ceiling: u8,
    ) -> Result<(), NoRoom> {
        let of = KindOf::Call(context.last());
        self.enter(context_key(context.0, cgroup), Kind { cgroup, of }, ceiling)
    }

    /// Makes the answers of a peer to a container familiar, up to durations of class `ceiling`.
    pub fn learn_answers(&mut self, cgroup: u64, peer: &str, ceiling: u8) -> Result<(), NoRoom> {
        let kind = Kind {
            cgroup,
            of: KindOf::Answers(peer.to_owned()),
        };
        for hash in peers::hashes(peer) {
            let key = context_key(exchange_context(hash), cgroup);
            self.enter(key, kind.clone(), ceiling)?;
        }
        Ok(())
    }

    /// Makes a container's own answers familiar, up to durations of class `ceiling`.
    pub fn learn_service(&mut self, cgroup: u64, ceiling: u8) -> Result<(), NoRoom> {
        let kind = Kind {
            cgroup,
            of: KindOf::Service,
        };
        self.enter(context_key(SERVICE_CONTEXT, cgroup), kind, ceiling)
    }

    fn enter(&mut self, key: u64, kind: Kind, ceiling: u8) -> Result<(), NoRoom> {
        let at = self.free(key).ok_or(NoRoom::Table)?;
        let row = match self.rows.get(&kind) {
            Some(row) => *row,
            None => self.new_row(kind).ok_or(NoRoom::Rows)?,
        };
        self.entry(at).set(key, row, ceiling);
        self.known.insert(key, (row, ceiling));
        Ok(())
    }

    /// A row for a kind that has none.
    fn new_row(&mut self, kind: Kind) -> Option<u32> {
        let row = match self.free_rows.pop() {
            Some(row) => {
                self.before.insert(row, self.raw(row as usize));
                row
            }
            // Rows are given in their order, and none is free.
            None if self.rows.len() < COUNT_ROWS => self.rows.len() as u32,
            None => return None,
        };
        self.rows.insert(kind, row);
        Some(row)
    }

    /// Nothing is familiar any more. Kinds that do not become familiar again lose their rows once
    /// what these counted was told.
    pub fn forget(&mut self) {
        self.known.clear();
        self.forgot = true;
        for at in 0..FAMILIAR_ENTRIES {
            self.entry(at).key.store(0, Ordering::Release);
        }
    }

    /// Begins to reduce: of `sample` familiar windows of a thread one is shipped on average.
    pub fn start(&mut self, sample: u32, now: Nanos) {
        self.set_sample(sample.max(1), now);
    }

    /// Has every window shipped again.
    pub fn stop(&mut self, now: Nanos) {
        self.set_sample(0, now);
    }

    fn set_sample(&mut self, sample: u32, now: Nanos) {
        if sample != self.sample.0 {
            self.sample = (sample, now);
            if self.changes.len() < MAX_CHANGES {
                self.changes.push(self.sample);
            }
            self.epoch().fetch_add(1, Ordering::Release);
        }
        self.sampling().store(sample, Ordering::Release);
    }

    /// Of how many familiar windows one is shipped, and since when; 0 for all.
    pub fn sample(&self) -> (u32, Nanos) {
        self.sample
    }

    /// The same as of every change since this was last asked, in order.
    pub fn take_changes(&mut self) -> Vec<(u32, Nanos)> {
        let changes = std::mem::take(&mut self.changes);
        match changes.last() {
            Some(last) if *last != self.sample => [changes, vec![self.sample]].concat(),
            _ => changes,
        }
    }

    /// What was counted so far, by kind.
    pub fn counted(&self) -> BTreeMap<Kind, Counted> {
        self.rows
            .iter()
            .map(|(kind, row)| (kind.clone(), self.row(*row as usize)))
            .collect()
    }

    /// What was counted since the last call of this function, by kind; what was not is left out.
    pub fn counted_since(&mut self) -> BTreeMap<Kind, Counted> {
        let mut since = BTreeMap::new();
        for (kind, row) in &self.rows {
            let now = self.row(*row as usize);
            let before = self.told.insert(*row, now.clone());
            let counted = match before {
                Some(before) => now.less(&before),
                None => now,
            };
            if counted.calls > 0 {
                since.insert(kind.clone(), counted);
            }
        }
        if std::mem::take(&mut self.forgot) {
            self.give_back();
        }
        since
    }

    /// Gives back the rows in which nothing is counted any more.
    fn give_back(&mut self) {
        let used: HashSet<u32> = self.known.values().map(|(row, _)| *row).collect();
        let unused = |_: &Kind, row: &mut u32| !used.contains(row);
        for (_, row) in self.rows.extract_if(unused) {
            self.told.remove(&row);
            self.before.remove(&row);
            self.free_rows.push(row);
        }
    }

    /// What was counted of the kind that has the row.
    fn row(&self, row: usize) -> Counted {
        let now = self.raw(row);
        match self.before.get(&(row as u32)) {
            Some(before) => now.less(before),
            None => now,
        }
    }

    fn raw(&self, row: usize) -> Counted {
        let mut sum = Counted {
            calls: 0,
            waited_ns: 0,
            classes: vec![0; COUNT_CLASSES],
        };
        let first = self.maps.counts.as_ptr().cast::<CountRow>();
        for processor in 0..self.maps.processors {
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

    /// Where the entry of a key is, or the free one that it may have.
    fn free(&self, key: u64) -> Option<usize> {
        (0..FAMILIAR_PROBES as u64)
            .map(|probe| (key.wrapping_add(probe) & (FAMILIAR_ENTRIES as u64 - 1)) as usize)
            .find(|at| [0, key].contains(&self.entry(*at).key.load(Ordering::Relaxed)))
    }

    fn entry(&self, at: usize) -> SharedEntry<'_> {
        // SAFETY: within the mapping; members are aligned and shared with the kernel alone.
        unsafe {
            let entry = self
                .maps
                .familiar
                .as_mut_ptr()
                .cast::<FamiliarEntry>()
                .add(at);
            SharedEntry {
                key: AtomicU64::from_ptr(&raw mut (*entry).key),
                row: AtomicU32::from_ptr(&raw mut (*entry).row),
                ceiling: AtomicU32::from_ptr(&raw mut (*entry).ceiling),
            }
        }
    }

    fn epoch(&self) -> &AtomicU32 {
        let reduction = self.maps.reduction.as_mut_ptr().cast::<Reduction>();
        // SAFETY: within the mapping; shared with the kernel alone.
        unsafe { AtomicU32::from_ptr(&raw mut (*reduction).epoch) }
    }

    fn sampling(&self) -> &AtomicU32 {
        let reduction = self.maps.reduction.as_mut_ptr().cast::<Reduction>();
        // SAFETY: within the mapping; shared with the kernel alone.
        unsafe { AtomicU32::from_ptr(&raw mut (*reduction).sample) }
    }
}

impl Counted {
    fn less(&self, before: &Self) -> Self {
        let classes = self.classes.iter().zip(&before.classes);
        Self {
            calls: self.calls.saturating_sub(before.calls),
            waited_ns: self.waited_ns.wrapping_sub(before.waited_ns),
            classes: classes
                .map(|(now, before)| now.saturating_sub(*before))
                .collect(),
        }
    }
}

struct SharedEntry<'a> {
    key: &'a AtomicU64,
    row: &'a AtomicU32,
    ceiling: &'a AtomicU32,
}

impl SharedEntry<'_> {
    fn set(&self, key: u64, row: u32, ceiling: u8) {
        self.row.store(row, Ordering::Relaxed);
        self.ceiling.store(u32::from(ceiling), Ordering::Relaxed);
        // The key comes last: the kernel reads the rest only where it finds it.
        self.key.store(key, Ordering::Release);
    }
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
