//! Where a process keeps the thread-local pointer of OTEP 4947, `otel_thread_ctx_v1`: by it an
//! OpenTelemetry SDK says which span a thread works for.

use std::{
    cell::Cell,
    collections::{HashMap, HashSet},
    ffi::CString,
    fs::{File, OpenOptions},
    io::Read as _,
    ops::Range,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, RawFd},
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
};

use object::{
    Endianness, ReadCache, ReadRef, elf,
    read::elf::{FileHeader as _, ProgramHeader as _, Sym as _},
};
use procfs::process::Process;
use serde::{Deserialize, Serialize};

const SYMBOL: &[u8] = b"otel_thread_ctx_v1";
/// Bytes that are read of one object file at most.
const MOST: u64 = 16 << 20;
/// Bytes of a process's list of mappings, and objects in it, that are looked at.
const MAPS: u64 = 1 << 20;
const MODULES: usize = 256;
/// Files that are remembered.
const REMEMBERED: usize = 4096;

/// Where the pointer lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadContext {
    /// The object that defines it, as the process sees its path.
    pub module: String,
    pub offset: i64,
    pub kind: TlsKind,
}

/// What an offset counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsKind {
    /// The thread pointer (x86-64: the base of `fs`).
    Static,
    /// The thread's block of the module, which the module's entry in the thread's vector (DTV)
    /// points to. Which entry that is, only the process's dynamic loader knows.
    Dynamic,
}

/// A thread-local variable within its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Variable {
    /// From the start of the object's block.
    in_block: i64,
    /// From the thread pointer, if the object is the executable.
    in_executable: i64,
}

/// A file as long as nobody changes it: device, inode, size, time of change.
type FileId = (u64, u64, u64, i64, i64);

/// Looks objects up, each once.
#[derive(Default)]
pub struct Objects(HashMap<FileId, Option<Variable>>);

impl Objects {
    /// Looks in the executable first, then in what is mapped. None when no object that can be read
    /// defines it.
    pub fn thread_context(&mut self, process: &Process) -> Option<ThreadContext> {
        let open = |path: &str| process.open_relative(path).ok();
        if let Some(variable) = open("exe").and_then(|file| self.variable(file, None)) {
            return Some(ThreadContext {
                module: process.exe().ok()?.to_string_lossy().into_owned(),
                offset: variable.in_executable,
                kind: TlsKind::Static,
            });
        }
        let mut maps = Vec::new();
        open("maps")?.take(MAPS).read_to_end(&mut maps).ok()?;
        let maps = String::from_utf8_lossy(&maps);
        let root = open("root")?;
        modules(&maps).find_map(|(inode, path)| {
            let variable = self.variable(open_below(&root, path)?, Some(inode))?;
            Some(ThreadContext {
                module: path.to_owned(),
                offset: variable.in_block,
                kind: TlsKind::Dynamic,
            })
        })
    }

    /// `inode`: the file is another one when it has another.
    fn variable(&mut self, file: File, inode: Option<u64>) -> Option<Variable> {
        let about = file.metadata().ok()?;
        if !about.is_file() || inode.is_some_and(|inode| inode != about.ino()) {
            return None;
        }
        let id = (
            about.dev(),
            about.ino(),
            about.size(),
            about.ctime(),
            about.ctime_nsec(),
        );
        if let Some(known) = self.0.get(&id) {
            return *known;
        }
        let found = find(file);
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
        self.0.insert(id, found);
        found
    }
}

/// Inode and path of the objects with code in a list of mappings, each once.
fn modules(maps: &str) -> impl Iterator<Item = (u64, &str)> {
    let mut seen = HashSet::new();
    maps.lines()
        .filter_map(|line| {
            // Addresses, rights, offset, device, inode; the path may have blanks.
            let mut fields = line.splitn(6, ' ');
            let (_, rights) = (fields.next()?, fields.next()?);
            let (_, _) = (fields.next()?, fields.next()?);
            let inode = fields.next()?.parse().ok()?;
            let path = fields.next()?.trim_start();
            (rights.contains('x') && path.starts_with('/')).then_some((inode, path))
        })
        .filter(move |module| seen.insert(*module))
        .take(MODULES)
}

/// Opens what a process whose root is `root` has at `path`; links do not lead out of there, and what
/// is no file does not block.
fn open_below(root: &File, path: &str) -> Option<File> {
    #[repr(C)]
    struct How {
        flags: u64,
        mode: u64,
        resolve: u64,
    }
    const NO_MAGIC_LINKS: u64 = 0x02;
    const IN_ROOT: u64 = 0x10;
    let how = How {
        flags: (libc::O_PATH | libc::O_CLOEXEC) as u64,
        mode: 0,
        resolve: IN_ROOT | NO_MAGIC_LINKS,
    };
    let path = CString::new(path).ok()?;
    // SAFETY: a string that is ended, and a structure of the size that is told.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            root.as_raw_fd(),
            path.as_ptr(),
            &raw const how,
            size_of::<How>(),
        )
    };
    let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: a descriptor that the kernel just made for this process.
    let place = unsafe { File::from_raw_fd(fd) };
    // To open anything else may do something: a terminal becomes this process's own.
    if !place.metadata().ok()?.is_file() {
        return None;
    }
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(format!("/proc/self/fd/{fd}"))
        .ok()
}

fn find(file: File) -> Option<Variable> {
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
    let block = header
        .program_headers(endian, data)
        .ok()?
        .iter()
        .find(|part| part.p_type(endian) == elf::PT_TLS)?;
    let sections = header.sections(endian, data).ok()?;
    let symbols = sections.symbols(endian, data, elf::SHT_DYNSYM).ok()?;
    let symbol = symbols.iter().find(|symbol| {
        symbol.st_type() == elf::STT_TLS
            && !symbol.is_undefined(endian)
            && symbol.name(endian, symbols.strings()) == Ok(SYMBOL)
    })?;
    let in_block = symbol.st_value(endian);
    let size = block.p_memsz(endian);
    if in_block.checked_add(8)? > size {
        return None;
    }
    let below = below_thread_pointer(size, block.p_vaddr(endian), block.p_align(endian))?;
    let in_block = i64::try_from(in_block).ok()?;
    Some(Variable {
        in_block,
        in_executable: in_block.checked_sub(below)?,
    })
}

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
    fn nothing_but_a_file_is_opened() {
        let root = File::open("/").unwrap();
        assert!(open_below(&root, "/proc/version").is_some());
        for other in ["/dev/null", "/dev/tty", "/tmp", "/no/such/file"] {
            assert!(open_below(&root, other).is_none(), "{other}");
        }
    }

    #[test]
    fn objects_with_code_are_listed_once() {
        let maps = "55d0-55d1 r--p 00000000 08:01 7    /bin/a b\n\
            55d1-55d2 r-xp 00001000 08:01 7    /bin/a b\n\
            55d3-55d4 r-xp 00003000 08:01 7    /bin/a b\n\
            7f00-7f01 r-xp 00000000 00:00 0 \n\
            7f02-7f03 r-xp 00000000 00:00 0    [vdso]\n\
            7f04-7f05 r-xp 00000000 08:01 9    /lib/c.so\n\
            7f06-7f07 rw-p 00000000 08:01 8    /data\n\
            7f08 r-xp";
        let listed: Vec<_> = modules(maps).collect();
        assert_eq!(listed, [(7, "/bin/a b"), (9, "/lib/c.so")]);
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
