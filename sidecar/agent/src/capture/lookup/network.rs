//! What a network namespace counted, and how TCP sockets of other processes stand.
//!
//! The counters come from two small files of `/proc` that any process may read. A socket is asked
//! through a copy of its descriptor, as its peer is: nothing walks the table of sockets.

use std::{
    io::Read as _,
    net::TcpStream,
    os::fd::{AsRawFd as _, OwnedFd},
};

use procfs::process::Process;

use super::sockets::canonical;
use crate::{
    capture::{node::NetworkFacts, pidfd},
    record::{NetworkCounters, SocketState},
};

/// Bytes of a file of counters that are read.
const FILE: u64 = 64 << 10;
/// Bytes of `struct tcp_info` up to `tcpi_sndbuf_limited`; older kernels give fewer.
const TCP_INFO: usize = 192;
/// Up to `tcpi_total_retrans`: what every kernel gives.
const LEAST: usize = 104;

/// `sockets`: process and descriptor. What cannot be read is left out.
pub(super) fn facts<'a>(
    process: &Process,
    sockets: impl Iterator<Item = (&'a Process, i32)>,
) -> NetworkFacts {
    NetworkFacts {
        counters: counters(process),
        sockets: sockets
            .filter_map(|(owner, fd)| socket(owner, fd))
            .collect(),
    }
}

fn counters(process: &Process) -> Option<NetworkCounters> {
    let mut found = NetworkCounters::default();
    take(&mut found, &text(process, "net/snmp")?);
    // Without it, there is less to tell causes apart by.
    take(
        &mut found,
        &text(process, "net/netstat").unwrap_or_default(),
    );
    Some(found)
}

fn text(process: &Process, file: &str) -> Option<String> {
    let mut text = String::new();
    let file = process.open_relative(file).ok()?;
    file.take(FILE).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Pairs of lines, `Tcp: InSegs OutSegs …` and `Tcp: 1 2 …`.
fn take(found: &mut NetworkCounters, text: &str) {
    let mut lines = text.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let mut names = names.split_ascii_whitespace();
        let Some(group) = names.next() else {
            continue;
        };
        let values = values.split_ascii_whitespace().skip(1);
        for (name, value) in names.zip(values) {
            let place = match (group, name) {
                ("Tcp:", "InSegs") => &mut found.received,
                ("Tcp:", "OutSegs") => &mut found.sent,
                ("Tcp:", "RetransSegs") => &mut found.sent_again,
                ("TcpExt:", "TCPTimeouts") => &mut found.timeouts,
                ("TcpExt:", "TCPSynRetrans") => &mut found.syn_again,
                ("TcpExt:", "TCPDSACKRecv") => &mut found.needless,
                ("TcpExt:", "TCPDSACKOldSent" | "TCPDSACKOfoSent") => &mut found.received_again,
                ("TcpExt:", "TCPSpuriousRtxHostQueues") => &mut found.still_queued,
                ("Icmp:", "InDestUnreachs") => &mut found.unreachable,
                ("Ip:", "OutNoRoutes") => &mut found.no_route,
                _ => continue,
            };
            *place = place.saturating_add(value.parse().unwrap_or(0));
        }
    }
}

fn socket(owner: &Process, fd: i32) -> Option<SocketState> {
    let pid = u32::try_from(owner.pid).ok()?;
    let handle = pidfd::open(pid).ok()?;
    let copy = pidfd::descriptor(&handle, fd).ok()?;
    let info = tcp_info(&copy)?;
    let peer = TcpStream::from(copy).peer_addr().ok().map(canonical);
    state(pid, fd, peer, &info)
}

fn tcp_info(socket: &OwnedFd) -> Option<Vec<u8>> {
    let mut info = vec![0u8; TCP_INFO];
    let mut length = TCP_INFO as libc::socklen_t;
    // SAFETY: room of `length` bytes, for which any bytes are a value.
    let refused = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    info.truncate(length as usize);
    (refused == 0).then_some(info)
}

/// By the places of `struct tcp_info` in `linux/tcp.h`.
fn state(pid: u32, fd: i32, peer: Option<String>, info: &[u8]) -> Option<SocketState> {
    let bytes = |at: usize| info.get(at).copied().unwrap_or(0);
    let word = |at: usize| {
        let found = info.get(at..at + 4).and_then(|b| b.try_into().ok());
        u32::from_ne_bytes(found.unwrap_or_default())
    };
    let long = |at: usize| {
        let found = info.get(at..at + 8).and_then(|b| b.try_into().ok());
        u64::from_ne_bytes(found.unwrap_or_default())
    };
    (info.len() >= LEAST).then(|| SocketState {
        pid,
        fd,
        peer,
        state: bytes(0),
        // What a filter of this machine drops counts as probes.
        retries: bytes(2).max(bytes(3)),
        unacknowledged: word(24),
        sent_again: word(100),
        rtt_us: word(68),
        least_rtt_us: word(148),
        since_heard_ms: word(56),
        unsent_bytes: word(144),
        received_bytes: long(128),
        busy_us: long(168),
        window_limited_us: long(176),
    })
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::record::SocketState;

    #[test]
    fn counters_are_found_by_name() {
        let mut found = NetworkCounters::default();
        let snmp = "Ip: Forwarding OutNoRoutes\nIp: 1 6\nIcmp: InMsgs InDestUnreachs\nIcmp: 9 5\n\
                    Tcp: RtoMin MaxConn InSegs OutSegs RetransSegs\nTcp: 200 -1 11 12 3\n";
        take(&mut found, snmp);
        take(
            &mut found,
            "TcpExt: TCPTimeouts TCPSynRetrans TCPDSACKRecv TCPDSACKOldSent TCPDSACKOfoSent\n\
             TcpExt: 7 8 2 3 1\nIpExt: X\n",
        );
        let expected = NetworkCounters {
            received: 11,
            sent: 12,
            sent_again: 3,
            timeouts: 7,
            syn_again: 8,
            needless: 2,
            still_queued: 0,
            unreachable: 5,
            no_route: 6,
            received_again: 4,
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn this_process_has_counters_and_its_sockets_a_state() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"hello").unwrap();
        let process = Process::myself().unwrap();
        let fds = [client.as_raw_fd(), -1];
        let found = facts(&process, fds.iter().map(|fd| (&process, *fd)));
        assert!(found.counters.unwrap().sent > 0);
        let [socket] = &found.sockets[..] else {
            panic!("{:?}", found.sockets);
        };
        assert_eq!(socket.peer, Some(address.to_string()));
        assert_eq!(
            (socket.state, socket.retries),
            (SocketState::ESTABLISHED, 0)
        );
        assert_eq!(socket.unacknowledged, 0, "loopback acknowledges at once");
    }

    #[test]
    fn what_is_no_tcp_socket_has_no_state() {
        assert_eq!(state(1, 2, None, &[1; 50]), None);
        let file = std::fs::File::open("/proc/self/stat").unwrap();
        let process = Process::myself().unwrap();
        assert_eq!(socket(&process, file.as_raw_fd()), None);
    }
}
