//! A TCP relay that can be made slow, narrow, silent or rude. It loses nothing.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

/// How often a server that is gone is looked for.
const RETRY: Duration = Duration::from_millis(200);
/// How late a new setting may be seen.
const STEP: Duration = Duration::from_millis(25);
/// Bytes that a throttled relay takes in before its clients have to wait.
const NARROW_BUFFER: usize = 16 * 1024;

/// What the relay does with connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum RelayState {
    #[default]
    Pass,
    /// Takes connections, old and new, and passes nothing on.
    Hold,
    /// Ends connections, old and new, by RST.
    Reset,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Holds back every piece of an answer for so long.
    pub(crate) delay: Duration,
    /// Of each direction of a connection; 0: as many as come.
    pub(crate) bytes_per_second: u32,
    pub(crate) state: RelayState,
}

/// Passes connections on to one server, in threads of this process, until it is dropped.
/// While the server refuses connections the relay has no listener, so that its clients see
/// ECONNREFUSED too.
pub(crate) struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    server: SocketAddr,
    settings: Mutex<Settings>,
    /// Look whether the server is still there.
    doubted: AtomicBool,
    /// The server, where it is a child of this process; 0 otherwise.
    process: AtomicI32,
    stopped: AtomicBool,
}

impl Shared {
    fn settings(&self) -> Settings {
        *locked(&self.settings)
    }

    /// Whether the server's process ended; its connections are refused from then on.
    fn is_ended(&self) -> bool {
        let process = self.process.load(Ordering::Relaxed);
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        process > 0
            && match waitid(Id::Pid(Pid::from_raw(process)), flags) {
                Ok(status) => status != WaitStatus::StillAlive,
                // Whoever started it has waited for it.
                Err(error) => error == Errno::ECHILD,
            }
    }

    fn ends(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.settings().state == RelayState::Reset
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Relay {
    /// On a free port of loopback.
    pub(crate) fn start(server: SocketAddr) -> Result<Self> {
        Self::start_in(None, (Ipv4Addr::LOCALHOST, 0).into(), server)
    }

    /// At `address`, in a network namespace where one is given.
    pub(crate) fn start_in(
        namespace: Option<&File>,
        address: SocketAddr,
        server: SocketAddr,
    ) -> Result<Self> {
        let namespace = namespace.map(File::try_clone).transpose()?;
        let shared = Arc::new(Shared {
            server,
            settings: Mutex::default(),
            doubted: AtomicBool::new(false),
            process: AtomicI32::new(0),
            stopped: AtomicBool::new(false),
        });
        let (of_thread, (sender, receiver)) = (Arc::clone(&shared), std::sync::mpsc::channel());
        // Threads of the relay's begin where this one is.
        thread::Builder::new().name("relay".into()).spawn(move || {
            let listening = listen(namespace.as_ref(), address);
            match listening {
                Ok(listener) => {
                    let _ = sender.send(listener.local_addr());
                    accept(listener, &of_thread);
                }
                Err(error) => drop(sender.send(Err(error))),
            }
        })?;
        let address = receiver.recv().context("the relay's thread ended")?;
        let address = address.with_context(|| format!("a relay of {server}"))?;
        Ok(Self { address, shared })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Refuse connections as soon as this child of the calling process has ended.
    pub(crate) fn watch(&self, process: u32) {
        let process = process.cast_signed();
        self.shared.process.store(process, Ordering::Relaxed);
    }

    /// For old and new connections.
    pub(crate) fn set(&self, settings: Settings) {
        *locked(&self.shared.settings) = settings;
    }

    /// Holds back every piece of an answer for so long, on old and new connections.
    pub(crate) fn set_delay(&self, delay: Duration) {
        locked(&self.shared.settings).delay = delay;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
    }
}

fn listen(namespace: Option<&File>, address: SocketAddr) -> io::Result<TcpListener> {
    if let Some(namespace) = namespace {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
    }
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn accept(listener: TcpListener, shared: &Arc<Shared>) {
    let Ok(address) = listener.local_addr() else {
        return;
    };
    let mut listener = Some(listener);
    while !shared.stopped.load(Ordering::Relaxed) {
        let Some(open) = &listener else {
            thread::sleep(RETRY);
            if TcpStream::connect(shared.server).is_ok() {
                listener = listen(None, address).ok();
            }
            continue;
        };
        if shared.is_ended() {
            listener = None;
            continue;
        }
        if shared.doubted.swap(false, Ordering::Relaxed) {
            let found = TcpStream::connect(shared.server);
            if found.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
                listener = None;
                continue;
            }
        }
        let joined = match open.accept() {
            Ok((client, _)) => join(client, shared),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(STEP / 5);
                Ok(())
            }
            Err(_) => {
                thread::sleep(RETRY);
                Ok(())
            }
        };
        if joined.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
            listener = None;
        }
    }
}

/// Connects to the server and passes bytes both ways until either side closes.
fn join(client: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    if shared.settings().state == RelayState::Reset {
        rude(&client);
        return Ok(());
    }
    let server = TcpStream::connect(shared.server)?;
    for side in [&client, &server] {
        side.set_nonblocking(false)?;
        side.set_nodelay(true)?;
        side.set_read_timeout(Some(STEP))?;
    }
    let (questions, answers) = ((client.try_clone()?, server.try_clone()?), (server, client));
    let asked_all = Arc::new(AtomicBool::new(false));
    for (from, to, is_answer) in [
        (questions.0, questions.1, false),
        (answers.0, answers.1, true),
    ] {
        let (shared, asked_all) = (Arc::clone(shared), Arc::clone(&asked_all));
        let pass = move || {
            pass(from, to, is_answer, &shared);
            // The server ended it: it may be gone.
            if is_answer && !asked_all.load(Ordering::Relaxed) {
                shared.doubted.store(true, Ordering::Relaxed);
            }
            asked_all.store(true, Ordering::Relaxed);
        };
        thread::Builder::new().name("relay".into()).spawn(pass)?;
    }
    Ok(())
}

fn pass(mut from: TcpStream, mut to: TcpStream, is_answer: bool, shared: &Shared) {
    let mut piece = vec![0; 64 * 1024];
    let mut is_narrow = false;
    loop {
        let settings = shared.settings();
        if shared.ends() {
            rude(if is_answer { &to } else { &from });
            break;
        }
        if settings.state == RelayState::Hold {
            thread::sleep(STEP);
            continue;
        }
        let narrow = settings.bytes_per_second > 0;
        if narrow && !is_narrow {
            // Where the kernel keeps a larger one, clients wait later.
            let _ = setsockopt(&from, sockopt::RcvBuf, &NARROW_BUFFER);
        }
        is_narrow = narrow;
        let most = match settings.bytes_per_second {
            0 => piece.len(),
            rate => (rate as usize / 20).clamp(1, piece.len()),
        };
        let length = match from.read(&mut piece[..most]) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                continue;
            }
            Err(error) => {
                if error.kind() == ErrorKind::ConnectionReset {
                    rude(&to);
                }
                break;
            }
        };
        if is_answer && !settings.delay.is_zero() {
            thread::sleep(settings.delay);
        }
        if to.write_all(&piece[..length]).is_err() {
            break;
        }
        if narrow {
            let seconds = length as f64 / f64::from(settings.bytes_per_second);
            thread::sleep(Duration::from_secs_f64(seconds));
        }
    }
    // A peer that is gone already needs no word.
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}

/// The last descriptor of this connection that closes sends RST.
fn rude(connection: &TcpStream) {
    let linger = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    let _ = setsockopt(connection, sockopt::Linger, &linger);
    let _ = connection.shutdown(Shutdown::Read);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn ask(address: SocketAddr) -> io::Result<[u8; 4]> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(b"ping")?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    }

    /// Answers until the first connection after `enough`. A relay may connect to look for it at any time.
    fn echo(listener: &TcpListener, enough: &AtomicBool) {
        loop {
            let (mut stream, _) = listener.accept().unwrap();
            if enough.load(Ordering::Relaxed) {
                return;
            }
            let mut question = [0; 4];
            if stream.read_exact(&mut question).is_ok() {
                stream.write_all(&question).unwrap();
            }
        }
    }

    fn refused_soon(address: SocketAddr) -> bool {
        (0..50).any(|_| {
            thread::sleep(Duration::from_millis(10));
            let error = TcpStream::connect(address).err();
            error.is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused)
        })
    }

    #[test]
    fn passes_delays_and_refuses_as_the_server_does() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = server.local_addr().unwrap();
        let relay = Relay::start(address).unwrap();
        let enough = Arc::new(AtomicBool::new(false));
        let is_enough = Arc::clone(&enough);
        let served = thread::spawn(move || echo(&server, &is_enough));
        assert_eq!(&ask(relay.address()).unwrap(), b"ping");

        relay.set_delay(Duration::from_millis(80));
        let started = Instant::now();
        assert_eq!(&ask(relay.address()).unwrap(), b"ping");
        assert!(
            started.elapsed() >= Duration::from_millis(80),
            "the answer was not held back"
        );
        enough.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(address);
        served.join().unwrap();
        let _ = TcpStream::connect(relay.address());
        assert!(refused_soon(relay.address()), "nobody listens behind it");
    }

    #[test]
    fn resets_and_throttles() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let relay = Relay::start(server.local_addr().unwrap()).unwrap();
        thread::spawn(move || echo(&server, &AtomicBool::new(false)));
        relay.set(Settings {
            bytes_per_second: 40,
            ..Settings::default()
        });
        let started = Instant::now();
        assert_eq!(&ask(relay.address()).unwrap(), b"ping");
        assert!(
            started.elapsed() >= Duration::from_millis(90),
            "it was not narrow"
        );
        relay.set(Settings {
            state: RelayState::Reset,
            ..Settings::default()
        });
        let error = ask(relay.address()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}
