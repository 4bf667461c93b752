//! The variable as an object file has it: where it lies in the object's thread-local block, and where the
//! loader notes how it is reached.

use std::{cell::Cell, fs::File, ops::Range};

use object::{
    Endianness, ReadCache, ReadRef, elf,
    read::elf::{FileHeader as _, ProgramHeader as _, Rela as _, SectionHeader as _, Sym as _},
};

const SYMBOL: &[u8] = b"otel_thread_ctx_v1";
/// Bytes that are read of one object file at most.
const MOST: u64 = 16 << 20;
/// Notes of one object at most.
const NOTES: usize = 8;

/// A thread-local variable that an object defines, or uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variable {
    /// None in an object that has it from another one.
    pub(super) defined: Option<Defined>,
    pub(super) notes: Vec<Note>,
}

/// Where an object has the variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Defined {
    /// From the start of the object's block.
    pub(super) in_block: i64,
    /// From the thread pointer, if the object is the executable.
    pub(super) in_executable: i64,
}

/// What the dynamic loader writes into the object about the variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) kind: NoteKind,
    /// From where the object begins in memory.
    pub(super) at: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoteKind {
    /// A function and its argument (TLSDESC).
    Descriptor,
    /// The number of the module (general dynamic).
    Module,
    /// The distance from the thread pointer (initial exec).
    Offset,
}

pub(super) fn find(file: File) -> Option<Variable> {
    let (cache, left) = (ReadCache::new(file), Cell::new(MOST));
    variable(Bounded {
        cache: &cache,
        left: &left,
    })
}

fn variable<'a>(data: impl ReadRef<'a>) -> Option<Variable> {
    let header = elf::FileHeader64::<Endianness>::parse(data).ok()?;
    let endian = header.endian().ok()?;
    // Elsewhere, static blocks lie above the thread pointer.
    if header.e_machine(endian) != elf::EM_X86_64 {
        return None;
    }
    let parts = header.program_headers(endian, data).ok()?;
    let first = parts
        .iter()
        .find(|part| part.p_type(endian) == elf::PT_LOAD)?;
    let begins = first.p_vaddr(endian) - first.p_vaddr(endian) % PAGE;
    let sections = header.sections(endian, data).ok()?;
    let symbols = sections.symbols(endian, data, elf::SHT_DYNSYM).ok()?;
    let (index, symbol) = symbols.enumerate().find(|(_, symbol)| {
        symbol.st_type() == elf::STT_TLS && symbol.name(endian, symbols.strings()) == Ok(SYMBOL)
    })?;
    let defined = match symbol.is_undefined(endian) {
        true => None,
        false => {
            let block = parts
                .iter()
                .find(|part| part.p_type(endian) == elf::PT_TLS)?;
            let (size, in_block) = (block.p_memsz(endian), symbol.st_value(endian));
            if in_block.checked_add(8)? > size {
                return None;
            }
            let below = below_thread_pointer(size, block.p_vaddr(endian), block.p_align(endian))?;
            let in_block = i64::try_from(in_block).ok()?;
            Some(Defined {
                in_block,
                in_executable: in_block.checked_sub(below)?,
            })
        }
    };
    let entries = sections
        .iter()
        .filter_map(|section| section.rela(endian, data).ok().flatten())
        .flat_map(|(entries, _)| entries);
    let notes = entries.filter_map(|entry| {
        let of = entry.r_sym(endian, false);
        // One that its object keeps to itself is named by its place alone.
        let by_place = of == 0 && defined.is_some_and(|own| own.in_block == entry.r_addend(endian));
        let kind = match entry.r_type(endian, false) {
            elf::R_X86_64_TLSDESC => NoteKind::Descriptor,
            elf::R_X86_64_DTPMOD64 => NoteKind::Module,
            elf::R_X86_64_TPOFF64 => NoteKind::Offset,
            _ => return None,
        };
        if of as usize != index.0 && !by_place {
            return None;
        }
        let at = entry.r_offset(endian).checked_sub(begins)?;
        Some(Note { kind, at })
    });
    Some(Variable {
        defined,
        notes: notes.take(NOTES).collect(),
    })
}

/// What loaders place objects at multiples of.
const PAGE: u64 = 4096;

/// How far below the thread pointer the executable's block starts: at least its size, and so that
/// the block keeps the alignment that it has in the file (variant II of the ELF TLS ABI).
fn below_thread_pointer(size: u64, address: u64, align: u64) -> Option<i64> {
    let align = align.max(1);
    if !align.is_power_of_two() {
        return None;
    }
    let rest = size.wrapping_add(address).wrapping_neg() & (align - 1);
    i64::try_from(size.checked_add(rest)?).ok()
}

/// A file of which a bounded part is read.
#[derive(Clone, Copy)]
struct Bounded<'a> {
    cache: &'a ReadCache<File>,
    left: &'a Cell<u64>,
}

impl Bounded<'_> {
    fn spend(self, bytes: u64) -> Result<(), ()> {
        self.left.set(self.left.get().checked_sub(bytes).ok_or(())?);
        Ok(())
    }
}

impl<'a> ReadRef<'a> for Bounded<'a> {
    fn len(self) -> Result<u64, ()> {
        self.cache.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        self.spend(size)?;
        self.cache.read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'a [u8], ()> {
        const LONGEST: u64 = 4096;
        self.spend(LONGEST)?;
        let end = range.end.min(range.start.saturating_add(LONGEST));
        self.cache.read_bytes_at_until(range.start..end, delimiter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executables_block_ends_at_the_thread_pointer() {
        let below = |size, address, align| below_thread_pointer(size, address, align);
        assert_eq!(below(8, 0x1000, 8), Some(8));
        assert_eq!(below(9, 0x1000, 8), Some(16));
        assert_eq!(below(0x64, 0x3db0, 0x40), Some(0x90));
        assert_eq!(below(8, 0, 0), Some(8));
        assert_eq!(below(8, 0, 3), None);
        assert_eq!(below(u64::MAX, 0, 8), None);
    }

    #[test]
    fn what_is_no_object_has_no_variable() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(variable(&own[..]), None);
        for length in (0..4096).chain([own.len() / 2, own.len() - 1]) {
            assert_eq!(variable(&own[..length]), None);
        }
        // Every field of the headers wrong, one after the other.
        let mut broken = own;
        for at in 0..1024 {
            let kept = std::mem::replace(&mut broken[at], 0xff);
            assert_eq!(variable(&broken[..]), None);
            broken[at] = kept;
        }
    }

    #[test]
    fn no_more_of_a_file_is_read_than_is_allowed() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 40).unwrap();
        let (cache, left) = (ReadCache::new(file), Cell::new(MOST));
        let data = Bounded {
            cache: &cache,
            left: &left,
        };
        assert!(data.read_bytes_at(1 << 30, 64).is_ok());
        assert!(data.read_bytes_at(0, 1 << 39).is_err());
        assert!(data.read_bytes_at(0, MOST).is_err());
        assert!(data.read_bytes_at_until(0..1 << 40, 0).is_ok());
    }
}
