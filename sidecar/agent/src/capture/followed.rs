//! What the kernel follows of a pod beside the windows: its descriptors, and the HTTP heads that were
//! last seen while it was reduced. Read in place.

use std::{
    mem::offset_of,
    os::fd::{AsFd as _, OwnedFd},
    sync::atomic::{AtomicU64, Ordering},
};

use memmap2::{MmapOptions, MmapRaw};
use stethos_events::{
    DESCRIPTOR_PROBES, DESCRIPTORS, DescriptorEntry, Event, HEADS, KeptHead, descriptor_key,
    descriptor_place, role,
};
use stethos_patterns::Role;

use super::pod::{MappingError, page_size};

/// The table of descriptors.
pub struct Followed(MmapRaw);

impl Followed {
    pub(super) fn map(table: &OwnedFd) -> Result<Self, MappingError> {
        MmapOptions::new()
            .len((DESCRIPTORS * size_of::<DescriptorEntry>()).next_multiple_of(page_size()))
            .map_raw(&table.as_fd())
            .map(Self)
            .map_err(|source| MappingError::Map {
                what: "table of descriptors",
                source,
            })
    }

    /// What is known of a descriptor; a closed one has no role.
    pub fn get(&self, pid: u32, fd: i32) -> Option<DescriptorEntry> {
        let key = descriptor_key(pid, fd);
        places(key)
            .map(|at| self.read(at))
            .find(|entry| entry.key == key)
    }

    /// Tells the kernel what a descriptor stands for that is older than the capture. What the
    /// kernel knows by itself stays.
    pub fn tell(&mut self, told: DescriptorEntry) {
        if self.get(told.pid(), told.fd()).is_some() {
            return;
        }
        let free = places(told.key).find(|at| {
            let entry = self.read(*at);
            entry.key == 0 || entry.role == role::NONE
        });
        let Some(at) = free else { return };
        let entry = self.entry(at);
        // SAFETY: within the mapping; the kernel bounds whatever it finds. The key comes last.
        unsafe {
            entry.write_volatile(DescriptorEntry { key: 0, ..told });
            AtomicU64::from_ptr(&raw mut (*entry).key).store(told.key, Ordering::Release);
        }
    }

    /// Frees the entries that `gone` names.
    pub fn sweep(&mut self, gone: impl Fn(&DescriptorEntry) -> bool) {
        for at in 0..DESCRIPTORS {
            let entry = self.read(at);
            if entry.key != 0 && gone(&entry) {
                // SAFETY: an aligned member of an entry within the mapping.
                unsafe {
                    AtomicU64::from_ptr(&raw mut (*self.entry(at)).key).store(0, Ordering::Release);
                }
            }
        }
    }

    pub fn all(&self) -> impl Iterator<Item = DescriptorEntry> + '_ {
        (0..DESCRIPTORS)
            .map(|at| self.read(at))
            .filter(|entry| entry.key != 0)
    }

    fn entry(&self, at: usize) -> *mut DescriptorEntry {
        // SAFETY: `at` is below `DESCRIPTORS`.
        unsafe { self.0.as_mut_ptr().cast::<DescriptorEntry>().add(at) }
    }

    fn read(&self, at: usize) -> DescriptorEntry {
        // SAFETY: within the mapping, valid for any bytes; the kernel goes on writing.
        unsafe { self.entry(at).read_volatile() }
    }
}

fn places(key: u64) -> impl Iterator<Item = usize> {
    let first = descriptor_place(key);
    (0..DESCRIPTOR_PROBES as u64)
        .map(move |probe| (first.wrapping_add(probe) & (DESCRIPTORS as u64 - 1)) as usize)
}

/// The role of an entry as the models know it.
pub fn role_of(entry: &DescriptorEntry) -> Role {
    match entry.role {
        role::FILE => Role::File,
        role::CLIENT => Role::Client,
        role::SERVER => Role::Server,
        role::LISTENER => Role::Listener,
        role::OTHER => Role::Other,
        _ => Role::None,
    }
}

/// The number that stands for a role in an entry.
pub fn role_number(of: Role) -> u32 {
    match of {
        Role::None => role::NONE,
        Role::File => role::FILE,
        Role::Client => role::CLIENT,
        Role::Server => role::SERVER,
        Role::Listener => role::LISTENER,
        Role::Other => role::OTHER,
    }
}

/// The last HTTP heads.
pub struct Heads {
    kept: MmapRaw,
    /// Heads up to this number were taken.
    taken: u64,
}

impl Heads {
    pub(super) fn map(heads: &OwnedFd) -> Result<Self, MappingError> {
        let kept = MmapOptions::new()
            .len((HEADS * size_of::<KeptHead>()).next_multiple_of(page_size()))
            .map_raw_read_only(&heads.as_fd())
            .map_err(|source| MappingError::Map {
                what: "HTTP heads",
                source,
            })?;
        Ok(Self { kept, taken: 0 })
    }

    /// The heads that were not taken yet and are still there, in order. One that is written
    /// meanwhile is left out.
    pub fn take(&mut self) -> Vec<Event> {
        let mut found: Vec<(u64, Event)> = (0..HEADS).filter_map(|at| self.whole(at)).collect();
        found.sort_unstable_by_key(|(number, _)| *number);
        if let Some((number, _)) = found.last() {
            self.taken = *number;
        }
        found.into_iter().map(|(_, event)| event).collect()
    }

    fn whole(&self, at: usize) -> Option<(u64, Event)> {
        let number = self.number(at);
        if number <= self.taken {
            return None;
        }
        // SAFETY: within the mapping, valid for any bytes.
        let event = unsafe {
            let kept = self.kept.as_ptr().cast::<KeptHead>().add(at);
            (&raw const (*kept).event).read_volatile()
        };
        (self.number(at) == number).then_some((number, event))
    }

    fn number(&self, at: usize) -> u64 {
        let offset = at * size_of::<KeptHead>() + offset_of!(KeptHead, number);
        // SAFETY: an aligned member within the mapping, written by the kernel alone.
        unsafe {
            AtomicU64::from_ptr(self.kept.as_mut_ptr().add(offset).cast()).load(Ordering::Acquire)
        }
    }
}
