//! What sockets of other processes are connected to.
//!
//! A socket is asked itself, through a copy of its descriptor that is closed at once. The table of
//! its network namespace, in which the kernel walks through every bucket for whoever reads it, is read
//! only where that is not allowed, and for sockets that still connect.

use std::{
    cell::OnceCell,
    collections::HashMap,
    fs::File,
    mem::MaybeUninit,
    net::{SocketAddr, TcpStream},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
};

use procfs::{net::TcpState, process::Process};

use crate::{capture::pidfd, record::DescriptorTarget};

/// `tcpi_state` of a socket that connects.
const TCP_SYN_SENT: u8 = 2;

/// Sockets of one process.
pub(super) struct Sockets<'a> {
    process: &'a Process,
    handle: Option<OwnedFd>,
    table: OnceCell<HashMap<u64, DescriptorTarget>>,
}

impl<'a> Sockets<'a> {
    pub(super) fn of(process: &'a Process) -> Self {
        Self {
            process,
            handle: pidfd::open(process.pid as u32).ok(),
            table: OnceCell::new(),
        }
    }

    /// What the socket `inode` behind `fd` is.
    pub(super) fn name(&self, fd: i32, inode: u64) -> DescriptorTarget {
        self.ask(fd, inode)
            .or_else(|| {
                let table = self.table.get_or_init(|| table(self.process));
                table.get(&inode).cloned()
            })
            .unwrap_or_else(other)
    }

    /// As the socket says itself; nothing where it does not.
    fn ask(&self, fd: i32, inode: u64) -> Option<DescriptorTarget> {
        let copy = pidfd::descriptor(self.handle.as_ref()?, fd).ok()?;
        // Another process may have the id by now, and another socket the number.
        let copy = File::from(copy);
        if copy.metadata().ok()?.ino() != inode {
            return None;
        }
        let copy = OwnedFd::from(copy);
        if option::<libc::c_int>(&copy, libc::SOL_SOCKET, libc::SO_TYPE)? != libc::SOCK_STREAM {
            return Some(other());
        }
        let listens = option::<libc::c_int>(&copy, libc::SOL_SOCKET, libc::SO_ACCEPTCONN)? != 0;
        let state = option::<u8>(&copy, libc::IPPROTO_TCP, libc::TCP_INFO);
        let stream = TcpStream::from(copy);
        // Neither IPv4 nor IPv6.
        let Ok(local) = stream.local_addr().map(canonical) else {
            return Some(other());
        };
        match stream.peer_addr().map(canonical) {
            _ if listens => Some(DescriptorTarget::Listener(local)),
            Ok(peer) => Some(DescriptorTarget::Tcp { local, peer }),
            Err(_) if state == Some(TCP_SYN_SENT) => None,
            Err(_) => Some(other()),
        }
    }
}

fn other() -> DescriptorTarget {
    DescriptorTarget::Other("socket".to_owned())
}

/// The first bytes of an option's value.
fn option<T: Copy>(socket: &OwnedFd, level: libc::c_int, name: libc::c_int) -> Option<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: room of `length` bytes; integers, for which any bytes are a value.
    let value = unsafe {
        let refused = libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            &raw mut length,
        );
        (refused == 0).then(|| value.assume_init())
    };
    value.filter(|_| length as usize == size_of::<T>())
}

pub(super) fn canonical(address: SocketAddr) -> String {
    SocketAddr::new(address.ip().to_canonical(), address.port()).to_string()
}

/// TCP sockets of the process's network namespace by inode.
fn table(process: &Process) -> HashMap<u64, DescriptorTarget> {
    let entries = process.tcp().into_iter().chain(process.tcp6()).flatten();
    entries
        .map(|entry| {
            let local = canonical(entry.local_address);
            let target = match entry.state {
                TcpState::Listen => DescriptorTarget::Listener(local),
                _ => DescriptorTarget::Tcp {
                    local,
                    peer: canonical(entry.remote_address),
                },
            };
            (entry.inode, target)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    fn inode(fd: i32) -> u64 {
        let link = std::fs::metadata(format!("/proc/self/fd/{fd}"));
        link.unwrap().ino()
    }

    /// What a socket of this process says, and what the table says of it.
    fn both(fd: i32) -> (Option<DescriptorTarget>, Option<DescriptorTarget>) {
        let process = Process::myself().unwrap();
        let asked = Sockets::of(&process).ask(fd, inode(fd));
        (asked, table(&process).get(&inode(fd)).cloned())
    }

    #[test]
    fn a_socket_says_what_the_table_says() {
        for address in ["127.0.0.1:0", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                eprintln!("{address} is left out: there is no such address here");
                continue;
            };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (served, _) = listener.accept().unwrap();
            for fd in [listener.as_raw_fd(), client.as_raw_fd(), served.as_raw_fd()] {
                let (asked, listed) = both(fd);
                assert!(asked.is_some());
                assert_eq!(asked, listed);
            }
        }
    }

    #[test]
    fn what_is_no_connection_is_another_socket() {
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (local, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        for fd in [datagrams.as_raw_fd(), local.as_raw_fd()] {
            assert_eq!(both(fd), (Some(other()), None));
        }
    }

    #[test]
    fn another_socket_with_the_number_is_not_taken_for_the_one() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let fd = listener.as_raw_fd();
        let process = Process::myself().unwrap();
        assert_eq!(Sockets::of(&process).ask(fd, inode(fd) + 1), None);
    }

    #[test]
    fn whom_a_socket_still_connects_to_is_in_the_table() {
        // A full backlog answers nobody: further connections stay in their first step.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // SAFETY: no memory arguments.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
        let _taken = TcpStream::connect(address).unwrap();
        let connecting: Vec<_> = (0..4).map(|_| begin(address)).collect();
        let process = Process::myself().unwrap();
        let named = connecting.iter().filter(|socket| {
            let fd = socket.as_raw_fd();
            let sockets = Sockets::of(&process);
            sockets.ask(fd, inode(fd)).is_none()
                && matches!(sockets.name(fd, inode(fd)),
                    DescriptorTarget::Tcp { peer, .. } if peer == address.to_string())
        });
        assert!(named.count() > 0);
    }

    /// Begins to connect, without waiting.
    fn begin(address: SocketAddr) -> OwnedFd {
        use std::os::fd::FromRawFd as _;
        let SocketAddr::V4(address) = address else {
            panic!("{address}");
        };
        // SAFETY: a new descriptor, and an address that outlives the call.
        unsafe {
            let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0);
            let to = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(address.ip().octets()),
                },
                sin_zero: [0; 8],
            };
            libc::connect(fd, (&raw const to).cast(), size_of_val(&to) as u32);
            OwnedFd::from_raw_fd(fd)
        }
    }
}
