//! What a pod shares with its sidecar: rings of windows and events, and the slots of its threads.
//! Read through mappings alone, so that it needs no right once the descriptors are there.

use std::{
    io,
    mem::offset_of,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use memmap2::{MmapOptions, MmapRaw};
use stethos_events::{
    BANK_SLOTS, CallRecord, Polled, RECENT_CALLS, ThreadSlot, ThreadTrace, Window, WindowHeader,
};
use thiserror::Error;

use super::followed::{Followed, Heads};

#[derive(Debug, Error)]
pub enum MappingError {
    #[error("the {what} could not be mapped: {source}")]
    Map {
        what: &'static str,
        source: io::Error,
    },
    #[error("a ring of {0} bytes: its size is a power of two of at least a page")]
    RingSize(u32),
}

/// Descriptors of one pod's maps, as its loader made them.
pub struct PodMaps {
    pub windows: OwnedFd,
    pub window_ring_bytes: u32,
    pub events: OwnedFd,
    pub event_ring_bytes: u32,
    /// Arrays of `BANK_SLOTS` slots.
    pub banks: Vec<OwnedFd>,
    /// Array of `FAMILIAR_ENTRIES` familiar contexts, written by the sidecar.
    pub familiar: OwnedFd,
    /// One `Reduction`, written by the sidecar.
    pub reduction: OwnedFd,
    /// Array of `COUNT_ROWS` rows for every processor.
    pub counts: OwnedFd,
    /// Array of `DESCRIPTORS` descriptors that are followed; a sidecar may write it.
    pub followed: OwnedFd,
    /// Array of `HEADS` HTTP heads.
    pub heads: OwnedFd,
    pub processors: u32,
}

impl PodMaps {
    /// All of them, the banks last.
    pub fn descriptors(&self) -> impl Iterator<Item = &OwnedFd> {
        [
            &self.windows,
            &self.events,
            &self.familiar,
            &self.reduction,
            &self.counts,
            &self.followed,
            &self.heads,
        ]
        .into_iter()
        .chain(&self.banks)
    }
}

/// The same, mapped.
pub struct Pod {
    pub windows: Ring,
    pub events: Ring,
    pub slots: Arc<Slots>,
    pub followed: Followed,
    pub heads: Heads,
}

impl Pod {
    pub fn map(maps: &PodMaps) -> Result<Self, MappingError> {
        Ok(Self {
            windows: Ring::map(&maps.windows, maps.window_ring_bytes)?,
            events: Ring::map(&maps.events, maps.event_ring_bytes)?,
            slots: Arc::new(Slots::map(&maps.banks)?),
            followed: Followed::map(&maps.followed)?,
            heads: Heads::map(&maps.heads)?,
        })
    }
}

const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
const RECORD_HEAD: usize = 8;

/// The consumer's side of a BPF ring buffer (layout: kernel/bpf/ringbuf.c): a page with the
/// consumer's position, then a page with the producer's, then the data twice in a row.
pub struct Ring {
    consumer: MmapRaw,
    producer: MmapRaw,
    page: usize,
    mask: usize,
}

impl Ring {
    fn map(ring: &impl AsFd, bytes: u32) -> Result<Self, MappingError> {
        let page = page_size();
        let bytes_long = bytes as usize;
        if !bytes_long.is_power_of_two() || bytes_long < page {
            return Err(MappingError::RingSize(bytes));
        }
        let failed = |source| MappingError::Map {
            what: "ring",
            source,
        };
        let ring = ring.as_fd();
        let consumer = MmapOptions::new()
            .len(page)
            .map_raw(&ring)
            .map_err(failed)?;
        let producer = MmapOptions::new()
            .offset(page as u64)
            .len(page + 2 * bytes_long)
            .map_raw_read_only(&ring)
            .map_err(failed)?;
        Ok(Self {
            consumer,
            producer,
            page,
            mask: bytes_long - 1,
        })
    }

    /// Where the kernel goes on writing.
    pub fn end(&self) -> u64 {
        position(&self.producer).load(Ordering::Acquire)
    }

    /// True when every record before `end` was handed over: none is still being written.
    pub fn is_read(&self, end: u64) -> bool {
        position(&self.consumer).load(Ordering::Relaxed) >= end
    }

    /// Hands the next record before `end` that is whole to `take`. False when there is none.
    pub fn next(&mut self, end: u64, take: impl FnOnce(&[u8])) -> bool {
        let consumer = position(&self.consumer);
        loop {
            // Only this reader moves the position.
            let at = consumer.load(Ordering::Relaxed);
            if at >= end {
                return false;
            }
            let offset = self.page + (at as usize & self.mask);
            // SAFETY: positions are multiples of 8 and within the mapping; the kernel writes the
            // length last, with release order.
            let head = unsafe { &*self.producer.as_ptr().add(offset).cast::<AtomicU32>() }
                .load(Ordering::Acquire);
            if head & BUSY != 0 {
                return false;
            }
            let length = (head & !(BUSY | DISCARDED)) as usize;
            if length > self.mask {
                // No record is longer than the ring: what is there is not one.
                return false;
            }
            let next = at + (RECORD_HEAD + length).next_multiple_of(8) as u64;
            if head & DISCARDED == 0 {
                // SAFETY: the data is mapped twice in a row, so a record never wraps; the
                // kernel does not write it again before the position passes it.
                let bytes = unsafe {
                    std::slice::from_raw_parts(
                        self.producer.as_ptr().add(offset + RECORD_HEAD),
                        length,
                    )
                };
                take(bytes);
                consumer.store(next, Ordering::Release);
                return true;
            }
            consumer.store(next, Ordering::Release);
        }
    }
}

fn position(page: &MmapRaw) -> &AtomicU64 {
    // SAFETY: the first eight bytes of a mapped page, shared with the kernel.
    unsafe { &*page.as_ptr().cast::<AtomicU64>() }
}

/// Slots of the pod's threads, bank after bank.
pub struct Slots {
    banks: Vec<MmapRaw>,
}

/// One slot, read in place while its thread goes on.
#[derive(Clone, Copy)]
pub struct SlotRef<'a> {
    slot: *const ThreadSlot,
    banks: std::marker::PhantomData<&'a Slots>,
}

impl Slots {
    fn map(banks: &[OwnedFd]) -> Result<Self, MappingError> {
        let bytes = (BANK_SLOTS * size_of::<ThreadSlot>()).next_multiple_of(page_size());
        let banks = banks
            .iter()
            .map(|bank| {
                MmapOptions::new()
                    .len(bytes)
                    .map_raw_read_only(&bank.as_fd())
            })
            .collect::<Result<_, _>>()
            .map_err(|source| MappingError::Map {
                what: "thread slots",
                source,
            })?;
        Ok(Self { banks })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.banks.len() * BANK_SLOTS
    }

    /// Slots that a thread has now.
    pub fn taken(&self) -> impl Iterator<Item = SlotRef<'_>> {
        self.all().filter(|slot| slot.tid() != 0)
    }

    /// The last calls of the threads of one container, those that ended lately included: what
    /// happened just before. Readable at any moment, whatever was handed over.
    pub fn recent(&self, cgroup: u64) -> Vec<Recent> {
        self.all()
            .filter(|slot| slot.header().cgroup == cgroup)
            .map(SlotRef::recent)
            .filter(|recent| !recent.calls.is_empty())
            .collect()
    }

    /// All that there are, those that no thread has now included.
    pub fn all(&self) -> impl Iterator<Item = SlotRef<'_>> {
        self.banks.iter().flat_map(|bank| {
            let first = bank.as_ptr().cast::<ThreadSlot>();
            (0..BANK_SLOTS).map(move |index| SlotRef {
                // SAFETY: within the bank.
                slot: unsafe { first.add(index) },
                banks: std::marker::PhantomData,
            })
        })
    }
}

/// The last calls of one thread, in order of return.
#[derive(Clone, Debug)]
pub struct Recent {
    pub pid: u32,
    pub tid: u32,
    pub calls: Vec<CallRecord>,
}

impl SlotRef<'_> {
    fn tid(self) -> u32 {
        let at = offset_of!(ThreadSlot, window)
            + offset_of!(Window, header)
            + offset_of!(WindowHeader, tid);
        self.read(at)
    }

    /// The thread that has or had the slot.
    pub fn owner(self) -> u32 {
        self.read(offset_of!(ThreadSlot, owner))
    }

    pub fn header(self) -> WindowHeader {
        self.read(offset_of!(ThreadSlot, window) + offset_of!(Window, header))
    }

    pub fn last(self) -> CallRecord {
        self.read(offset_of!(ThreadSlot, last))
    }

    pub fn seen(self) -> u64 {
        self.read(offset_of!(ThreadSlot, seen))
    }

    pub fn lost(self) -> u64 {
        self.read(offset_of!(ThreadSlot, lost))
    }

    /// Calls of windows that were only counted.
    pub fn counted(self) -> u64 {
        self.read(offset_of!(ThreadSlot, counted))
    }

    /// Calls of the unfinished window that were not familiar.
    pub fn strange(self) -> u32 {
        self.read(offset_of!(ThreadSlot, strange))
    }

    /// Changes of the span that the thread works for, which the ring refused.
    pub fn lost_spans(self) -> u32 {
        self.read(offset_of!(ThreadSlot, trace) + offset_of!(ThreadTrace, lost))
    }

    /// The thread's last calls. What is overwritten while it is read is left out.
    fn recent(self) -> Recent {
        let size = RECENT_CALLS as u64;
        let (header, seen) = (self.header(), self.seen());
        let first = seen.saturating_sub(size);
        let calls: Vec<CallRecord> = (first..seen)
            .map(|number| {
                let at = (number % size) as usize * size_of::<CallRecord>();
                self.read(offset_of!(ThreadSlot, recent) + at)
            })
            .collect();
        // The call under way at the end of the reading may have overwritten one more.
        let now = self.seen();
        let overwritten = if now == seen {
            0
        } else {
            (now + 1).saturating_sub(size).saturating_sub(first)
        };
        Recent {
            pid: header.pid,
            tid: self.owner(),
            calls: calls.into_iter().skip(overwritten as usize).collect(),
        }
    }

    pub fn polled(self) -> Polled {
        self.read(offset_of!(ThreadSlot, polled))
    }

    /// The first `count` calls of the window.
    pub fn calls(self, count: usize) -> Vec<CallRecord> {
        let first = offset_of!(ThreadSlot, window) + offset_of!(Window, calls);
        (0..count.min(stethos_events::WINDOW_CALLS))
            .map(|index| self.read(first + index * size_of::<CallRecord>()))
            .collect()
    }

    /// A member, as it is now. The kernel may be writing it: callers compare what tells.
    fn read<T: bytemuck::AnyBitPattern>(self, offset: usize) -> T {
        // SAFETY: within the slot, aligned as in the struct, valid for any bytes.
        unsafe { self.slot.byte_add(offset).cast::<T>().read_volatile() }
    }
}

pub(super) fn page_size() -> usize {
    // SAFETY: no arguments that matter.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}
