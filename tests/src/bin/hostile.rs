//! A sidecar that means harm: `hostile SOCKET WHAT ARGUMENTS…`. Says what came of it, a line each.
//!
//! - `garbage`: bytes that are no message, a message that is too long, a wrong greeting
//! - `flood`: asks without ever reading an answer
//! - `crowd N`: opens N connections and keeps them
//! - `silent`: connects and says nothing
//! - `spy CGROUP PID`: joins for its own pod, asks for another's
//! - `target TARGET`: joins for that
//! - `write`: joins, and tries to map each of its maps for writing

use std::{
    env,
    io::{self, Write as _},
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use stethos::capture::broker::{
    protocol::{
        ANSWER_MAX, Agreed, Answer, Greeting, Hello, Join, REQUEST_MAX, Request, VERSIONS, decode,
        encode,
    },
    socket::Socket,
};
use stethos_events::RECORD_VERSION;

const LIMIT: Duration = Duration::from_secs(20);

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let argument = |at: usize| arguments.get(at).cloned().unwrap_or_default();
    let socket = PathBuf::from(argument(0));
    match argument(1).as_str() {
        "garbage" => garbage(&socket),
        "flood" => flood(&socket),
        "crowd" => crowd(&socket, argument(2).parse().unwrap_or(1)),
        "silent" => silent(&socket),
        "spy" => spy(
            &socket,
            argument(2).parse().unwrap_or(0),
            argument(3).parse().unwrap_or(0),
        ),
        "target" => target(&socket, &argument(2)),
        "write" => write(&socket),
        _ => Err(io::Error::other("hostile SOCKET WHAT ARGUMENTS…")),
    }
}

fn say(what: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{what}")?;
    out.flush()
}

/// Waits for the end of the input, so that the test decides how long this lasts.
fn stay() -> io::Result<()> {
    io::copy(&mut io::stdin().lock(), &mut io::sink()).map(drop)
}

fn other<E: std::fmt::Display>(error: E) -> io::Error {
    io::Error::other(error.to_string())
}

fn receive<T: serde::de::DeserializeOwned>(socket: &Socket) -> io::Result<T> {
    let message = socket.receive(ANSWER_MAX, true)?;
    let message = message.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
    decode(&message.bytes).map_err(other)
}

fn send<T: serde::Serialize>(socket: &Socket, message: &T) -> io::Result<()> {
    socket.send(&encode(message, REQUEST_MAX).map_err(other)?)
}

fn greeted(path: &Path) -> io::Result<Socket> {
    let socket = Socket::connect(path, LIMIT)?;
    let greeting: Greeting = receive(&socket)?;
    if let Some(reason) = greeting.refused {
        return Err(other(reason));
    }
    send(&socket, &Hello::new(VERSIONS, greeting.nonce))?;
    match receive(&socket)? {
        Agreed::Version(_) => Ok(socket),
        Agreed::Refused(reason) => Err(other(reason)),
    }
}

fn joining(targets: &str) -> Request {
    Request::Join(Join {
        record_version: RECORD_VERSION,
        targets: targets
            .split(',')
            .filter_map(|target| target.parse().ok())
            .collect(),
        window_ring_bytes: 1 << 30,
        event_ring_bytes: 1 << 30,
        threads: u32::MAX,
        has: None,
    })
}

fn joined(path: &Path) -> io::Result<Socket> {
    let socket = greeted(path)?;
    send(&socket, &joining("self-pod"))?;
    match receive(&socket)? {
        Answer::Welcome(_) => Ok(socket),
        answer => Err(other(format!("{answer:?}"))),
    }
}

/// `closed` when the broker hangs up.
fn ended(socket: &Socket) -> &'static str {
    loop {
        match socket.receive(ANSWER_MAX, false) {
            Ok(Some(_)) => {}
            Ok(None) => return "closed",
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return "closed",
            Err(_) => return "open",
        }
    }
}

fn garbage(path: &Path) -> io::Result<()> {
    let socket = Socket::connect(path, LIMIT)?;
    let _: Greeting = receive(&socket)?;
    socket.send(&[0xff; 100])?;
    say(ended(&socket))?;
    let socket = Socket::connect(path, LIMIT)?;
    let _: Greeting = receive(&socket)?;
    socket.send(&vec![0; REQUEST_MAX + 1])?;
    say(ended(&socket))?;
    let socket = Socket::connect(path, LIMIT)?;
    let greeting: Greeting = receive(&socket)?;
    send(&socket, &Hello::new(VERSIONS, greeting.nonce ^ 1))?;
    say(ended(&socket))?;
    let socket = greeted(path)?;
    send(&socket, &Request::Process(1))?;
    say(ended(&socket))?;
    let socket = joined(path)?;
    socket.send(b"\xff\xff\xff\xff\xff\xff")?;
    say(ended(&socket))
}

fn flood(path: &Path) -> io::Result<()> {
    let socket = joined(path)?;
    say("joined")?;
    let sent = (0..1_000_000)
        .take_while(|_| send(&socket, &Request::PollThreads).is_ok())
        .count();
    say(if sent < 1_000_000 { "closed" } else { "open" })
}

fn crowd(path: &Path, wanted: usize) -> io::Result<()> {
    let mut open = Vec::new();
    let mut greeted = 0;
    for _ in 0..wanted {
        let socket = Socket::connect(path, LIMIT)?;
        let greeting: Greeting = receive(&socket)?;
        greeted += usize::from(greeting.refused.is_none());
        open.push(socket);
    }
    say(&greeted.to_string())?;
    stay()
}

fn silent(path: &Path) -> io::Result<()> {
    let socket = Socket::connect(path, LIMIT)?;
    let _: Greeting = receive(&socket)?;
    say(ended(&socket))
}

fn spy(path: &Path, cgroup: u64, pid: u32) -> io::Result<()> {
    let socket = joined(path)?;
    for request in [
        Request::Container(cgroup),
        Request::Process(pid),
        Request::Process(1),
        Request::Descriptor { pid, fd: 0 },
        Request::Counters {
            containers: vec![cgroup],
        },
    ] {
        send(&socket, &request)?;
        let answer: Answer = receive(&socket)?;
        say(&format!("{answer:?}"))?;
    }
    Ok(())
}

fn target(path: &Path, target: &str) -> io::Result<()> {
    let socket = greeted(path)?;
    send(&socket, &joining(target))?;
    let answer: Answer = receive(&socket)?;
    say(&format!("{answer:?}"))
}

/// Says for each descriptor whether its first page, and whether what follows, can be written.
fn write(path: &Path) -> io::Result<()> {
    const PAGE: usize = 4096;
    let socket = greeted(path)?;
    send(&socket, &joining("self-pod"))?;
    let message = socket.receive(ANSWER_MAX, true)?;
    let message = message.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
    let writable = |fd: &OwnedFd, offset: usize| {
        // SAFETY: a new mapping, which nothing else uses.
        let mapped = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                offset as libc::off_t,
            )
        };
        mapped != libc::MAP_FAILED
    };
    for fd in &message.descriptors {
        say(&format!("{} {}", writable(fd, 0), writable(fd, PAGE)))?;
    }
    Ok(())
}
