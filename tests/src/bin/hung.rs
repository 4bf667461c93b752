//! A process that hangs whoever looks at it: it maps code from a file system of its own, in user
//! space, and answers no second opening of the file. Then it listens, as servers do that have loaded
//! all they need. Says `asked` when somebody opened the file; makes calls meanwhile. `hung FOLDER`,
//! where the file system is mounted, for this process alone.

use std::{
    ffi::CString,
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    net::TcpListener,
    os::fd::AsRawFd as _,
    path::Path,
    time::Duration,
};

/// Requests of the kernel's FUSE protocol (linux/fuse.h).
const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

const ROOT: u64 = 1;
const CODE: u64 = 2;
const SIZE: usize = 4096;

fn main() -> io::Result<()> {
    let folder = std::env::args_os().nth(1);
    let folder = folder.ok_or_else(|| io::Error::other("hung FOLDER"))?;
    let device = mount(Path::new(&folder))?;
    std::thread::spawn(move || serve(device));
    let code = File::open(Path::new(&folder).join("code"))?;
    // SAFETY: a new mapping of a file, which nobody touches.
    let mapped = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            SIZE,
            libc::PROT_READ | libc::PROT_EXEC,
            libc::MAP_PRIVATE,
            code.as_raw_fd(),
            0,
        )
    };
    if mapped == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // Closed while it is still answered: at the end of this process nobody would be.
    drop(code);
    let _listens = TcpListener::bind("127.0.0.1:0")?;
    loop {
        // SAFETY: no arguments.
        unsafe { libc::getppid() };
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn say(what: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{what}")?;
    out.flush()
}

/// Mounts the file system in a mount namespace of this process's own.
fn mount(folder: &Path) -> io::Result<File> {
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/fuse")?;
    let options = CString::new(format!(
        "fd={},rootmode=40000,user_id=0,group_id=0",
        device.as_raw_fd()
    ))?;
    let folder = CString::new(folder.as_os_str().as_encoded_bytes())?;
    let check = |result| match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    // SAFETY: strings that are ended, and no other memory arguments.
    unsafe {
        check(libc::unshare(libc::CLONE_NEWNS))?;
        let none = std::ptr::null();
        let private = libc::MS_REC | libc::MS_PRIVATE;
        check(libc::mount(none, c"/".as_ptr(), none, private, none.cast()))?;
        let kind = c"fuse".as_ptr();
        check(libc::mount(
            c"hung".as_ptr(),
            folder.as_ptr(),
            kind,
            0,
            options.as_ptr().cast(),
        ))?;
    }
    Ok(device)
}

fn serve(mut device: File) -> io::Result<()> {
    let mut request = vec![0; 1 << 17];
    let mut opened = false;
    loop {
        let length = device.read(&mut request)?;
        let field = |at: usize| -> [u8; 8] {
            let bytes = request[..length].get(at..at + 8);
            bytes.and_then(|b| b.try_into().ok()).unwrap_or_default()
        };
        // Length, kind; unique number; node.
        let kind = (u64::from_ne_bytes(field(0)) >> 32) as u32;
        let (unique, node) = (field(8), u64::from_ne_bytes(field(16)));
        let answer = match kind {
            FORGET | BATCH_FORGET | INTERRUPT => continue,
            INIT => Ok(initialised()),
            GETATTR => Ok([&valid(), &[0; 8][..], &attributes(node)].concat()),
            LOOKUP => Ok(entry()),
            OPEN if opened => {
                say("asked")?;
                continue;
            }
            OPEN => {
                opened = true;
                Ok(vec![0; 16])
            }
            _ => Err(-libc::ENOSYS),
        };
        let (error, body) = match answer {
            Ok(body) => (0, body),
            Err(error) => (error, Vec::new()),
        };
        let length = (16 + body.len()) as u32;
        let head = [
            &length.to_ne_bytes()[..],
            &i32::to_ne_bytes(error),
            &unique,
            &body,
        ];
        device.write_all(&head.concat())?;
    }
}

/// What is told stays true for this many seconds.
fn valid() -> [u8; 8] {
    u64::to_ne_bytes(3600)
}

/// `fuse_init_out`.
fn initialised() -> Vec<u8> {
    let mut out = vec![0; 64];
    out[0..4].copy_from_slice(&7u32.to_ne_bytes());
    out[4..8].copy_from_slice(&31u32.to_ne_bytes());
    // The longest write.
    out[20..24].copy_from_slice(&4096u32.to_ne_bytes());
    out
}

/// `fuse_entry_out` of the one file.
fn entry() -> Vec<u8> {
    let node = CODE.to_ne_bytes();
    [
        &node[..],
        &[0; 8],
        &valid(),
        &valid(),
        &[0; 8],
        &attributes(CODE),
    ]
    .concat()
}

/// `fuse_attr`.
fn attributes(node: u64) -> Vec<u8> {
    let mode = match node {
        ROOT => libc::S_IFDIR | 0o755,
        _ => libc::S_IFREG | 0o755,
    };
    let mut out = vec![0; 88];
    out[0..8].copy_from_slice(&node.to_ne_bytes());
    out[8..16].copy_from_slice(&(SIZE as u64).to_ne_bytes());
    out[60..64].copy_from_slice(&mode.to_ne_bytes());
    out[64..68].copy_from_slice(&1u32.to_ne_bytes());
    out[80..84].copy_from_slice(&4096u32.to_ne_bytes());
    out
}
