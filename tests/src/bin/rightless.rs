//! Starts a program as a sidecar without rights has to run: `rightless WRITABLE PROGRAM ARGUMENTS…`
//! with uid 65534, no capabilities, `no_new_privs`, a read-only file system but for the folder
//! WRITABLE, and a seccomp filter that kills it at the first `bpf(2)`.

use std::{
    env,
    ffi::{CString, OsStr},
    fs, io,
    os::unix::{ffi::OsStrExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
};

const NOBODY: libc::uid_t = 65534;

fn main() -> io::Result<()> {
    let mut arguments = env::args_os().skip(1);
    let missing = || io::Error::other("rightless WRITABLE PROGRAM ARGUMENTS…");
    let writable = arguments.next().ok_or_else(missing)?;
    let program = arguments.next().ok_or_else(missing)?;
    let program = read_only_but(&writable, &program)?;
    env::set_current_dir(&writable)?;
    drop_rights()?;
    deny_bpf()?;
    Err(Command::new(program).args(arguments).exec())
}

/// Makes all mounts read-only, in a mount namespace of this process's own, but for one folder. Gives
/// the program's path in that folder: its own may lead through folders that only root may enter.
fn read_only_but(folder: &OsStr, program: &OsStr) -> io::Result<PathBuf> {
    let path = CString::new(folder.as_bytes())?;
    let within = Path::new(folder).join("program");
    fs::File::create(&within)?;
    let (from, to) = (
        CString::new(program.as_bytes())?,
        CString::new(within.as_os_str().as_bytes())?,
    );
    // SAFETY: strings that are ended, and no other memory arguments.
    unsafe {
        check(libc::unshare(libc::CLONE_NEWNS))?;
        let none = std::ptr::null();
        let private = libc::MS_REC | libc::MS_PRIVATE;
        check(libc::mount(none, c"/".as_ptr(), none, private, none.cast()))?;
        let own = path.as_ptr();
        check(libc::mount(own, own, none, libc::MS_BIND, none.cast()))?;
        let (from, to) = (from.as_ptr(), to.as_ptr());
        check(libc::mount(from, to, none, libc::MS_BIND, none.cast()))?;
    }
    set_read_only(c"/".as_ptr(), true)?;
    set_read_only(path.as_ptr(), false)?;
    Ok(within)
}

fn set_read_only(path: *const libc::c_char, yes: bool) -> io::Result<()> {
    #[repr(C)]
    struct Attributes {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }
    const READ_ONLY: u64 = 1;
    const RECURSIVE: libc::c_uint = 0x8000;
    let attributes = Attributes {
        set: if yes { READ_ONLY } else { 0 },
        clear: if yes { 0 } else { READ_ONLY },
        propagation: 0,
        user_namespace: 0,
    };
    // SAFETY: a string that is ended, and attributes of the size that is told.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path,
            if yes { RECURSIVE } else { 0 },
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    check(result as libc::c_int)
}

fn drop_rights() -> io::Result<()> {
    const CAPABILITIES: libc::c_ulong = 64;
    // SAFETY: no memory arguments but an empty list.
    unsafe {
        for capability in 0..CAPABILITIES {
            // Beyond the last one the kernel refuses.
            libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
        }
        check(libc::setgroups(0, std::ptr::null()))?;
        check(libc::setresgid(NOBODY, NOBODY, NOBODY))?;
        check(libc::setresuid(NOBODY, NOBODY, NOBODY))?;
        // A change of user takes this away.
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    }
}

fn deny_bpf() -> io::Result<()> {
    let statement = |code: u32, jump_if: u8, jump_else: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt: jump_if,
        jf: jump_else,
        k,
    };
    // The number stands first in `seccomp_data`.
    let mut filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            0,
            1,
            libc::SYS_bpf as u32,
        ),
        statement(
            libc::BPF_RET | libc::BPF_K,
            0,
            0,
            libc::SECCOMP_RET_KILL_PROCESS,
        ),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as libc::c_ushort,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: a filter of the length that is told, which the kernel copies.
    check(unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
            0,
            0,
        )
    })
}

fn check(result: libc::c_int) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
