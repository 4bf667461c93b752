//! A small disk that only the thread of one test, and what it starts, can see.

use std::{
    ffi::CString,
    fs::{self, File},
    io::{self, ErrorKind, Write as _},
    path::{Path, PathBuf},
};

/// A tmpfs in a mount namespace of its own: gone with the test, however that ends.
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts over the folder `path`. Needs root. Threads and processes that the calling thread
    /// starts from now on see it, too.
    pub fn mount(path: &Path, bytes: u64) -> io::Result<Self> {
        // SAFETY: concerns this thread's view of the file system alone.
        check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
        set(c"none", c"/", libc::MS_REC | libc::MS_PRIVATE, None)?;
        let disk = Self {
            path: path.to_owned(),
        };
        disk.tmpfs(0, bytes)?;
        Ok(disk)
    }

    /// Gives the disk another size.
    pub fn resize(&self, bytes: u64) -> io::Result<()> {
        self.tmpfs(libc::MS_REMOUNT, bytes)
    }

    fn tmpfs(&self, flags: libc::c_ulong, bytes: u64) -> io::Result<()> {
        let path = CString::new(self.path.as_os_str().as_encoded_bytes())?;
        let size = CString::new(format!("size={bytes}"))?;
        set(c"tmpfs", &path, flags, Some(&size))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file that takes all room there is.
    pub fn fill(&self) -> io::Result<()> {
        let mut file = File::create(self.filler())?;
        loop {
            match file.write(&[0; 4096]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes that file.
    pub fn free(&self) -> io::Result<()> {
        fs::remove_file(self.filler())
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }
}

fn set(
    what: &std::ffi::CStr,
    path: &std::ffi::CStr,
    flags: libc::c_ulong,
    options: Option<&CString>,
) -> io::Result<()> {
    let options = options.map_or(std::ptr::null(), |options| options.as_ptr());
    // SAFETY: strings that outlive the call, or no options.
    check(unsafe {
        libc::mount(
            what.as_ptr(),
            path.as_ptr(),
            what.as_ptr(),
            flags,
            options.cast(),
        )
    })
}

fn check(result: libc::c_int) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
