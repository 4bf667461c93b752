//! A QEMU process that interprets the guest's instructions: slower than KVM, the same everywhere.
//! One thread runs both of the guest's processors: with a thread each, a kernel that patches its
//! own code while the other processor runs it dies now and then.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};

const QEMU: &str = "qemu-system-x86_64";
const FIXED: [&str; 13] = [
    "-nodefaults",
    "-no-user-config",
    "-no-reboot",
    "-display",
    "none",
    "-accel",
    "tcg,thread=single",
    "-cpu",
    "max",
    "-smp",
    "2",
    "-m",
    "1024",
];
/// A kernel that panics resets at once, which ends QEMU. A busy host delays the timer's interrupts, which
/// a kernel that checks them takes for a broken timer.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet panic=-1 no_timer_check";

/// How a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It switched itself off, or QEMU failed.
    Exited(ExitStatus),
    /// It ran out of time and was killed.
    TimedOut,
}

/// A running machine; it ends at the latest when dropped, or with the thread that started it.
pub(super) struct Machine {
    child: Child,
    console: PathBuf,
    results: PathBuf,
    errors: PathBuf,
}

impl Machine {
    /// Starts a machine that keeps its files in `folder`.
    pub(super) fn boot(kernel: &Path, initramfs: &Path, folder: &Path) -> Result<Self> {
        let [console, results, errors] =
            ["console", "results", "errors"].map(|name| folder.join(name));
        let mut command = Command::new(QEMU);
        command
            .args(FIXED)
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(initramfs)
            .args(["-append", KERNEL_ARGUMENTS])
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .arg("-serial")
            .arg(format!("file:{}", results.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&errors)?)
            .process_group(0);
        // SAFETY: one async-signal-safe call between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            })
        };
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {QEMU}; `cargo xtask setup` installs it"))?;
        Ok(Self {
            child,
            console,
            results,
            errors,
        })
    }

    /// Waits for the machine's end; kills it after `limit`.
    pub(super) fn wait(&mut self, limit: Duration) -> Result<End> {
        if ends_within(&self.child, limit)? {
            return Ok(End::Exited(self.child.wait()?));
        }
        self.kill();
        Ok(End::TimedOut)
    }

    /// What the first process wrote to the second serial port.
    pub(super) fn results(&self) -> String {
        text(&self.results)
    }

    /// What the kernel wrote to the first serial port, and QEMU to standard error.
    pub(super) fn console(&self) -> String {
        text(&self.console) + &text(&self.errors)
    }

    fn kill(&mut self) {
        // One that was waited for has no process group any more.
        if matches!(self.child.try_wait(), Ok(None)) {
            // SAFETY: the group of a child that was not waited for, so its number is not reused.
            unsafe { libc::killpg(self.child.id() as libc::pid_t, libc::SIGKILL) };
            let _ = self.child.wait();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

fn text(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// True when `child` ended within `limit`.
fn ends_within(child: &Child, limit: Duration) -> io::Result<bool> {
    // SAFETY: no memory is passed.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) };
    let Ok(number @ 0..) = i32::try_from(pidfd) else {
        return Err(io::Error::last_os_error());
    };
    // SAFETY: a descriptor that the call above made and nobody else knows.
    let pidfd = unsafe { OwnedFd::from_raw_fd(number) };
    let mut polled = libc::pollfd {
        fd: pidfd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let limit = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: one valid entry.
    match unsafe { libc::poll(&raw mut polled, 1, limit) } {
        -1 => Err(io::Error::last_os_error()),
        ready => Ok(ready > 0),
    }
}
