//! Sequenced-packet unix sockets: a message arrives whole or not at all, with the descriptors and
//! the credentials that the kernel carries beside it.

use std::{
    io,
    mem::{size_of, zeroed},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    time::Duration,
};

/// Descriptors with one message at most.
pub const DESCRIPTORS_MAX: usize = 136;

/// Who is at the other end, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// In this process's PID namespace; 0 for a process that is not visible in it.
    pub pid: u32,
    pub uid: u32,
}

pub struct Socket(OwnedFd);

/// One received message.
pub struct Message {
    pub bytes: Vec<u8>,
    /// Sender, where [`Socket::pass_credentials`] asked for it.
    pub sender: Option<Credentials>,
    pub descriptors: Vec<OwnedFd>,
}

impl Socket {
    fn new(flags: libc::c_int) -> io::Result<Self> {
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | flags;
        // SAFETY: no memory arguments.
        let fd = unsafe { libc::socket(libc::AF_UNIX, kind, 0) };
        own(fd).map(Self)
    }

    /// Listens at `path`, where nothing may stand.
    pub fn listen(path: &Path) -> io::Result<Self> {
        const BACKLOG: libc::c_int = 64;
        let socket = Self::new(libc::SOCK_NONBLOCK)?;
        let (address, length) = address(path)?;
        // SAFETY: an address of that length.
        check(unsafe { libc::bind(socket.raw(), (&raw const address).cast(), length) })?;
        // SAFETY: no memory arguments.
        check(unsafe { libc::listen(socket.raw(), BACKLOG) })?;
        Ok(socket)
    }

    /// Connects; every later send and receive, too, ends within `limit`.
    pub fn connect(path: &Path, limit: Duration) -> io::Result<Self> {
        let socket = Self::new(0)?;
        socket.limit(limit, limit)?;
        let (address, length) = address(path)?;
        // SAFETY: an address of that length.
        check(unsafe { libc::connect(socket.raw(), (&raw const address).cast(), length) })?;
        Ok(socket)
    }

    /// The next connection; `WouldBlock` when there is none.
    pub fn accept(&self) -> io::Result<Self> {
        // SAFETY: no address is asked for.
        let fd = unsafe {
            libc::accept4(
                self.raw(),
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                libc::SOCK_CLOEXEC,
            )
        };
        own(fd).map(Self)
    }

    /// Waits until one of `sockets` has something, at most for `limit`.
    pub fn wait_any(sockets: &[&Socket], limit: Duration) -> io::Result<()> {
        let mut waiting: Vec<_> = sockets
            .iter()
            .map(|socket| libc::pollfd {
                fd: socket.raw(),
                events: libc::POLLIN,
                revents: 0,
            })
            .collect();
        let milliseconds = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: that many entries.
        let found = unsafe {
            libc::poll(
                waiting.as_mut_ptr(),
                waiting.len() as libc::nfds_t,
                milliseconds,
            )
        };
        match check(found) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    /// Bounds how long every receive and every send may take.
    pub fn limit(&self, receive: Duration, send: Duration) -> io::Result<()> {
        let time = |limit: Duration| libc::timeval {
            tv_sec: limit.as_secs() as libc::time_t,
            tv_usec: libc::suseconds_t::from(limit.subsec_micros() as i32),
        };
        self.set(libc::SO_RCVTIMEO, &time(receive))?;
        self.set(libc::SO_SNDTIMEO, &time(send))
    }

    /// Has the kernel add the sender to every message from now on.
    pub fn pass_credentials(&self) -> io::Result<()> {
        self.set(libc::SO_PASSCRED, &1i32)
    }

    fn set<T>(&self, option: libc::c_int, value: &T) -> io::Result<()> {
        // SAFETY: a value of the size that is told.
        check(unsafe {
            libc::setsockopt(
                self.raw(),
                libc::SOL_SOCKET,
                option,
                (&raw const *value).cast(),
                size_of::<T>() as libc::socklen_t,
            )
        })
        .map(drop)
    }

    /// Who connected.
    pub fn peer(&self) -> io::Result<Credentials> {
        let mut found = libc::ucred {
            pid: 0,
            uid: 0,
            gid: 0,
        };
        let mut length = size_of::<libc::ucred>() as libc::socklen_t;
        // SAFETY: room of the length that is told.
        check(unsafe {
            libc::getsockopt(
                self.raw(),
                libc::SOL_SOCKET,
                libc::SO_PEERCRED,
                (&raw mut found).cast(),
                &raw mut length,
            )
        })?;
        Ok(credentials(found))
    }

    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.send_with(bytes, &[])
    }

    /// Sends a message with descriptors, of which the other end gets copies.
    pub fn send_with(&self, bytes: &[u8], descriptors: &[RawFd]) -> io::Result<()> {
        if descriptors.len() > DESCRIPTORS_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut part = libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        let mut control = Control::new();
        // SAFETY: plain integers and pointers, valid when zero.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        if !descriptors.is_empty() {
            let size = size_of_val(descriptors);
            message.msg_control = control.0.as_mut_ptr().cast();
            // SAFETY: computes a size.
            message.msg_controllen = unsafe { libc::CMSG_SPACE(size as u32) } as _;
            // SAFETY: the control buffer has room for one header and the descriptors.
            unsafe {
                let head = libc::CMSG_FIRSTHDR(&raw const message);
                (*head).cmsg_level = libc::SOL_SOCKET;
                (*head).cmsg_type = libc::SCM_RIGHTS;
                (*head).cmsg_len = libc::CMSG_LEN(size as u32) as _;
                let data = libc::CMSG_DATA(head).cast::<RawFd>();
                for (index, fd) in descriptors.iter().enumerate() {
                    data.add(index).write_unaligned(*fd);
                }
            }
        }
        // SAFETY: a message that is whole, with parts that live as long as the call.
        let sent = unsafe { libc::sendmsg(self.raw(), &raw const message, libc::MSG_NOSIGNAL) };
        match usize::try_from(sent) {
            Ok(sent) if sent == bytes.len() => Ok(()),
            Ok(_) => Err(io::ErrorKind::WriteZero.into()),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }

    /// The next message of at most `most` bytes; none at the end. A longer one is `InvalidData`.
    /// Descriptors are taken only where they are `wanted`; others are closed by the kernel.
    pub fn receive(&self, most: usize, wanted: bool) -> io::Result<Option<Message>> {
        let mut bytes = vec![0; most];
        let mut part = libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: most,
        };
        let mut control = Control::new();
        // SAFETY: plain integers and pointers, valid when zero.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = match wanted {
            true => size_of::<Control>(),
            // SAFETY: computes a size.
            false => unsafe { libc::CMSG_SPACE(size_of::<libc::ucred>() as u32) as usize },
        } as _;
        let received = loop {
            // SAFETY: room of the lengths that are told.
            let received =
                unsafe { libc::recvmsg(self.raw(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
            match usize::try_from(received) {
                Ok(received) => break received,
                Err(_) => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::Interrupted => {}
                    error => return Err(error),
                },
            }
        };
        let (sender, descriptors) = beside(&message);
        if message.msg_flags & libc::MSG_TRUNC != 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        bytes.truncate(received);
        // An empty message cannot be told from the end; neither side sends one.
        Ok((received > 0).then_some(Message {
            bytes,
            sender,
            descriptors,
        }))
    }

    fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Room for what comes beside a message, aligned as its headers are.
#[repr(align(8))]
struct Control([u8; 640]);

const _: () = assert!(DESCRIPTORS_MAX * size_of::<RawFd>() + 64 <= size_of::<Control>());

impl Control {
    fn new() -> Self {
        Self([0; 640])
    }
}

/// Sender and descriptors that came beside a message.
fn beside(message: &libc::msghdr) -> (Option<Credentials>, Vec<OwnedFd>) {
    let mut sender = None;
    let mut descriptors = Vec::new();
    // SAFETY: the kernel filled in `message`; headers are followed as cmsg(3) says, and the data
    // is read unaligned within the length of its header. Descriptors received are this process's
    // own.
    unsafe {
        let mut head = libc::CMSG_FIRSTHDR(message);
        while !head.is_null() {
            let data = libc::CMSG_DATA(head);
            let length = (*head).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
            match ((*head).cmsg_level, (*head).cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                    for index in 0..length / size_of::<RawFd>() {
                        let fd = data.cast::<RawFd>().add(index).read_unaligned();
                        descriptors.push(OwnedFd::from_raw_fd(fd));
                    }
                }
                (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if length >= size_of::<libc::ucred>() => {
                    sender = Some(credentials(data.cast::<libc::ucred>().read_unaligned()));
                }
                _ => {}
            }
            head = libc::CMSG_NXTHDR(message, head);
        }
    }
    (sender, descriptors)
}

fn credentials(found: libc::ucred) -> Credentials {
    Credentials {
        pid: u32::try_from(found.pid).unwrap_or(0),
        uid: found.uid,
    }
}

fn address(path: &Path) -> io::Result<(libc::sockaddr_un, libc::socklen_t)> {
    let bytes = path.as_os_str().as_bytes();
    // SAFETY: plain integers, valid when zero.
    let mut address: libc::sockaddr_un = unsafe { zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    if bytes.is_empty() || bytes.len() >= address.sun_path.len() || bytes.contains(&0) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{}: a socket's path has 1 to 107 bytes", path.display()),
        ));
    }
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    Ok((address, size_of::<libc::sockaddr_un>() as libc::socklen_t))
}

fn own(fd: libc::c_int) -> io::Result<OwnedFd> {
    check(fd)?;
    // SAFETY: a descriptor that the kernel just made for this process.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (tempfile::TempDir, Socket, Socket) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = Socket::listen(&path).unwrap();
        let client = Socket::connect(&path, Duration::from_secs(5)).unwrap();
        let server = listener.accept().unwrap();
        let limit = Duration::from_secs(5);
        server.limit(limit, limit).unwrap();
        (folder, client, server)
    }

    #[test]
    fn messages_keep_their_bounds_and_say_who_sent_them() {
        let (_folder, client, server) = pair();
        server.pass_credentials().unwrap();
        client.send(b"one").unwrap();
        client.send(b"two!").unwrap();
        let first = server.receive(64, false).unwrap().unwrap();
        assert_eq!(first.bytes, b"one");
        assert_eq!(first.sender.unwrap().pid, std::process::id());
        assert_eq!(server.peer().unwrap(), first.sender.unwrap());
        // Four bytes into room for three.
        let error = server.receive(3, false).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        drop(client);
        assert!(server.receive(64, false).unwrap().is_none());
    }

    #[test]
    fn descriptors_arrive_only_where_they_are_wanted() {
        let (_folder, client, server) = pair();
        let (reader, writer) = io::pipe().unwrap();
        server.pass_credentials().unwrap();
        for _ in 0..2 {
            client
                .send_with(b"x", &[reader.as_raw_fd(), writer.as_raw_fd()])
                .unwrap();
        }
        let without = server.receive(8, false).unwrap().unwrap();
        assert!(without.descriptors.is_empty() && without.sender.is_some());
        let with = server.receive(8, true).unwrap().unwrap();
        assert_eq!(with.descriptors.len(), 2);
    }
}
