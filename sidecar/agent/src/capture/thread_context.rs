//! Where a process keeps the thread-local pointer of OTEP 4947, `otel_thread_ctx_v1`: by it an
//! OpenTelemetry SDK says which span a thread works for.

mod object;

use std::{
    collections::HashMap,
    ffi::CString,
    fs::{File, OpenOptions},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, RawFd},
        unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
};

use procfs::process::Process;
use serde::{Deserialize, Serialize};
use stethos_events::ContextPlace;

use object::{Note, NoteKind, Variable};

/// Objects of a process that are looked at.
const MODULES: usize = 256;
/// Files that are remembered.
const REMEMBERED: usize = 4096;
/// Modules that a process may have.
const HIGHEST_MODULE: u64 = 1 << 16;
/// How far below the thread pointer static blocks reach.
const STATIC_BYTES: i64 = 1 << 24;

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
    /// The thread's block of the module with this number, which an entry of the thread's vector (DTV)
    /// points to.
    Dynamic(u64),
}

impl ThreadContext {
    /// The same for the kernel programs.
    pub fn place(&self) -> ContextPlace {
        ContextPlace {
            offset: self.offset,
            module: match self.kind {
                TlsKind::Static => 0,
                TlsKind::Dynamic(module) => module,
            },
        }
    }
}

/// A file as long as nobody changes it: device, inode, size, time of change.
type FileId = (u64, u64, u64, i64, i64);

/// Looks objects up, each once.
#[derive(Default)]
pub struct Objects(HashMap<FileId, Option<Variable>>);

impl Objects {
    /// Looks in the executable first, then in what is mapped (`maps`). None when no object that can be
    /// read defines it, or none whose loader has made a place for it.
    pub fn thread_context(&mut self, process: &Process, maps: &str) -> Option<ThreadContext> {
        let open = |path: &str| process.open_relative(path).ok();
        let own = open("exe").and_then(|file| self.variable(file, None));
        if let Some(defined) = own.and_then(|variable| variable.defined) {
            return Some(ThreadContext {
                module: process.exe().ok()?.to_string_lossy().into_owned(),
                offset: defined.in_executable,
                kind: TlsKind::Static,
            });
        }
        let root = open("root")?;
        let known: Vec<(Module<'_>, Variable)> = modules(maps)
            .filter_map(|module| {
                let file = open_below(&root, module.path)?;
                let variable = self.variable(file, Some(module.inode))?;
                Some((module, variable))
            })
            .collect();
        let (module, in_block) = known.iter().find_map(|(module, variable)| {
            let defined = variable.defined?;
            Some((module.path, defined.in_block))
        })?;
        let memory = Memory {
            file: open("mem")?,
            in_block,
            // Its vectors are laid out in another way.
            is_musl: maps.contains("/ld-musl-"),
        };
        let mut notes = known.iter().flat_map(|(module, variable)| {
            let begins = module.begins;
            variable.notes.iter().map(move |note| (begins, *note))
        });
        let (kind, offset) = notes.find_map(|(begins, note)| memory.reached(note, begins))?;
        Some(ThreadContext {
            module: module.to_owned(),
            offset,
            kind,
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
            return known.clone();
        }
        let found = object::find(file);
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
        self.0.insert(id, found.clone());
        found
    }
}

/// A process's memory.
struct Memory {
    file: File,
    /// Where in its block the variable lies.
    in_block: i64,
    is_musl: bool,
}

impl Memory {
    /// How the variable is reached, by what the loader noted in an object that begins at `begins`.
    fn reached(&self, note: Note, begins: u64) -> Option<(TlsKind, i64)> {
        let at = begins.checked_add(note.at)?;
        let dynamic = |module: u64| {
            let possible = (1..HIGHEST_MODULE).contains(&module) && !self.is_musl;
            possible.then_some((TlsKind::Dynamic(module), self.in_block))
        };
        let below = |offset: i64| {
            let possible = (-STATIC_BYTES..0).contains(&offset);
            possible.then_some((TlsKind::Static, offset))
        };
        match note.kind {
            NoteKind::Module => dynamic(self.word(at)?),
            NoteKind::Offset => below(self.word(at)?.cast_signed()),
            NoteKind::Descriptor => {
                let (function, argument) = (self.word(at)?, self.word(at.checked_add(8)?)?);
                if function == 0 {
                    return None;
                }
                below(argument.cast_signed()).or_else(|| {
                    // The argument points to the module's number, and to where in its block.
                    let in_block = self.word(argument.checked_add(8)?)?.cast_signed();
                    let module = self.word(argument)?;
                    (in_block == self.in_block).then(|| dynamic(module))?
                })
            }
        }
    }

    fn word(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, address).ok()?;
        Some(u64::from_ne_bytes(bytes))
    }
}

/// An object that a process has mapped.
#[derive(Debug, PartialEq, Eq)]
struct Module<'a> {
    inode: u64,
    path: &'a str,
    /// Its lowest address.
    begins: u64,
}

/// The objects with code in a list of mappings, each once.
fn modules(maps: &str) -> impl Iterator<Item = Module<'_>> {
    // Whether it was listed, too.
    let mut seen: HashMap<(u64, &str), (u64, bool)> = HashMap::new();
    maps.lines()
        .filter_map(move |line| {
            // Addresses, rights, offset, device, inode; the path may have blanks.
            let mut fields = line.splitn(6, ' ');
            let (addresses, rights) = (fields.next()?, fields.next()?);
            let (_, _) = (fields.next()?, fields.next()?);
            let inode = fields.next()?.parse().ok()?;
            let path = fields.next()?.trim_start();
            let begins = u64::from_str_radix(addresses.split('-').next()?, 16).ok()?;
            if !path.starts_with('/') {
                return None;
            }
            let (begins, listed) = seen.entry((inode, path)).or_insert((begins, false));
            if *listed || !rights.contains('x') {
                return None;
            }
            *listed = true;
            Some(Module {
                inode,
                path,
                begins: *begins,
            })
        })
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

#[cfg(test)]
mod tests {
    use super::*;

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
        let module = |inode, path, begins| Module {
            inode,
            path,
            begins,
        };
        let expected = [
            module(7, "/bin/a b", 0x55d0),
            module(9, "/lib/c.so", 0x7f04),
        ];
        assert_eq!(listed, expected);
    }
}
