//! Whose span the failing calls of requests are put under: servers that fail, clients that ask them many
//! things at once, and the truth, which stands in what fails.
#![allow(clippy::unwrap_used, reason = "a step that fails ends the test")]

mod dependency;
mod judged;
mod streams;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use stethos::record::Record;

use crate::{
    cgroup::Cgroup,
    live::{finish, settings, start},
    programs::binary,
};
use dependency::Dependency;
pub use judged::{Joined, affected, judged};

/// Requests that are under way at once.
pub const CONNECTIONS: usize = 64;

/// What a request ends in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Open,
    Connect,
    /// Opens, on another thread than the one that serves the request.
    Elsewhere,
    /// Asks another server under a span of its own, which resets the connection.
    Exchange,
}

impl Operation {
    pub fn name(self) -> &'static str {
        match self {
            Operation::Open => "open",
            Operation::Connect => "connect",
            Operation::Elsewhere => "elsewhere",
            Operation::Exchange => "exchange",
        }
    }

    /// Of a request line `GET /WHAT/N HTTP/1.1`.
    pub fn of_line(line: &str) -> Option<(Self, u32)> {
        let mut parts = line.strip_prefix("GET /")?.split([' ', '/']);
        let operation = match parts.next()? {
            "open" => Operation::Open,
            "connect" => Operation::Connect,
            "elsewhere" => Operation::Elsewhere,
            "exchange" => Operation::Exchange,
            _ => return None,
        };
        let number = u32::from_str_radix(parts.next()?, 16).ok()?;
        Some((operation, number))
    }
}

/// The file that request `number` does not find.
pub fn path_of(number: u32) -> String {
    format!("/join/{number:x}")
}

/// The address that it is refused by: of 24 bits.
pub fn address_of(number: u32) -> SocketAddr {
    SocketAddr::from((host_of(number), PORT))
}

fn host_of(number: u32) -> Ipv4Addr {
    let [_, a, b, c] = number.to_be_bytes();
    Ipv4Addr::new(127, a, b, c)
}

/// The variable by which servers know the port of what they ask.
const DEPENDENCY: &str = "JOIN_DEPENDENCY";

/// Where a server asks for request `number`.
pub fn dependency_of(number: u32) -> SocketAddr {
    let port = std::env::var(DEPENDENCY).ok();
    let port = port.and_then(|port| port.parse().ok());
    SocketAddr::from((host_of(number), port.unwrap_or(PORT)))
}

/// What it asks, under its own span.
pub fn question_of(number: u32) -> String {
    let traceparent = context(number, own_span(number));
    format!("GET / HTTP/1.1\r\nHost: dependency\r\ntraceparent: {traceparent}\r\n\r\n")
}

/// Nobody listens there.
const PORT: u16 = 9;

/// Number 0 would be no trace.
pub fn trace_of(number: u32) -> [u8; 16] {
    let mut trace = [0x5a; 16];
    trace[..4].copy_from_slice(&number.to_be_bytes());
    trace
}

/// The span that the client asks under.
pub fn callers_span(number: u32) -> [u8; 8] {
    (u64::from(number) << 8 | 1).to_be_bytes()
}

/// The span that the server works under.
pub fn own_span(number: u32) -> [u8; 8] {
    (u64::from(number) << 8 | 2).to_be_bytes()
}

/// A server that can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Application {
    /// A thread for each connection.
    Threads,
    /// A runtime that moves tasks between threads.
    Tokio,
    /// The same over HTTP/2, a task for each request.
    Http2,
    /// An event loop, and threads for files.
    Node,
}

impl Application {
    pub fn name(self) -> &'static str {
        match self {
            Application::Threads => "threads",
            Application::Tokio => "tokio",
            Application::Http2 => "http2",
            Application::Node => "node",
        }
    }

    fn command(self, publish: bool, dependency: u16) -> Command {
        let mut command = match self {
            Application::Node => {
                let mut command = Command::new("node");
                command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/programs/join.js"));
                command
            }
            _ => {
                let mut command = Command::new(binary("join-server"));
                command.arg(self.name());
                command
            }
        };
        command.args(publish.then_some("publish"));
        command.env(DEPENDENCY, dependency.to_string());
        command
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub application: Application,
    /// The application says which span each thread works for.
    pub publish: bool,
    pub operation: Operation,
    pub requests: u32,
}

impl Asked {
    fn path(&self, number: u32) -> String {
        format!("/{}/{number:x}", self.operation.name())
    }
}

pub fn traceparent(number: u32) -> String {
    context(number, callers_span(number))
}

fn context(number: u32, span: [u8; 8]) -> String {
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
    format!("00-{}-{}-01", hex(&trace_of(number)), hex(&span))
}

/// Asks so many things, and gives what capture delivered meanwhile. None when the application is not
/// installed. One at a time: they share a cgroup.
pub fn ask(asked: Asked) -> Option<Vec<Record>> {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let pod = Cgroup::new("join").unwrap();
    let mut settings = settings(16 << 20, 1024, 10);
    settings.capacity.event_ring_bytes = 16 << 20;
    // What this process starts later is left out of its capture.
    let mut server = Server::start(&pod, asked.application, asked.publish)?;
    let mut live = start(&pod, settings);
    let address = server.address();
    // A process is seen once it calls; what it publishes is looked for within a second of that.
    drop(TcpStream::connect(address).unwrap());
    std::thread::sleep(Duration::from_millis(1500));
    let next = AtomicU32::new(1);
    let mut records = Vec::new();
    std::thread::scope(|scope| {
        let clients: Vec<_> = match asked.application {
            Application::Http2 => vec![scope.spawn(|| streams::ask(address, asked))],
            _ => (0..CONNECTIONS)
                .map(|_| scope.spawn(|| client(address, asked, &next)))
                .collect(),
        };
        while clients.iter().any(|client| !client.is_finished()) {
            while let Ok(batch) = live.records.try_recv() {
                records.extend(batch);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    server.end();
    records.extend(finish(live));
    Some(records)
}

fn client(address: SocketAddr, asked: Asked, next: &AtomicU32) {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_nodelay(true).unwrap();
    let mut answer = vec![0; 4096];
    loop {
        let number = next.fetch_add(1, Relaxed);
        if number > asked.requests {
            return;
        }
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: join\r\ntraceparent: {}\r\n\r\n",
            asked.path(number),
            traceparent(number),
        );
        connection.write_all(request.as_bytes()).unwrap();
        let mut length = 0;
        while !answer[..length].ends_with(b"\r\n\r\nok") {
            let more = connection.read(&mut answer[length..]).unwrap();
            assert!(more > 0, "the server closed the connection");
            length += more;
        }
    }
}

/// A server that ends with the test.
pub struct Server {
    pub child: Child,
    port: u16,
    _dependency: Dependency,
}

impl Server {
    /// None when it is not installed; `publish`: it says which span each thread works for.
    pub fn start(pod: &Cgroup, application: Application, publish: bool) -> Option<Self> {
        let dependency = Dependency::start();
        let mut command = application.command(publish, dependency.port);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = pod.spawn(&mut command).ok()?;
        let mut line = String::new();
        let output = child.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        let port = line.trim().parse().unwrap();
        Some(Self {
            child,
            port,
            _dependency: dependency,
        })
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}
