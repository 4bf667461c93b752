//! A TCP relay on loopback that can be made slow. It has no queue and loses nothing.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// How often a server that is gone is looked for.
const RETRY: Duration = Duration::from_millis(200);

/// Passes connections on to one server, in threads of this process, until the process ends.
/// While the server refuses connections the relay has no listener, so that its clients see
/// ECONNREFUSED too, from the second connection on.
pub(crate) struct Relay {
    address: SocketAddr,
    delay_ms: Arc<AtomicU64>,
}

impl Relay {
    pub(crate) fn start(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("relay")?;
        let address = listener.local_addr()?;
        let delay_ms = Arc::new(AtomicU64::new(0));
        let delay = Arc::clone(&delay_ms);
        thread::Builder::new()
            .name("relay".into())
            .spawn(move || accept(listener, server, &delay))?;
        Ok(Self { address, delay_ms })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Holds back every piece of an answer for so long, on old and new connections.
    pub(crate) fn set_delay(&self, delay: Duration) {
        let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.delay_ms.store(millis, Ordering::Relaxed);
    }
}

fn accept(listener: TcpListener, server: SocketAddr, delay: &Arc<AtomicU64>) {
    let Ok(address) = listener.local_addr() else {
        return;
    };
    let mut listener = Some(listener);
    loop {
        let Some(open) = &listener else {
            thread::sleep(RETRY);
            if TcpStream::connect(server).is_ok() {
                listener = TcpListener::bind(address).ok();
            }
            continue;
        };
        let Ok((client, _)) = open.accept() else {
            thread::sleep(RETRY);
            continue;
        };
        if join(client, server, delay).is_err() {
            listener = None;
        }
    }
}

/// Connects to the server and passes bytes both ways until either side closes.
fn join(client: TcpStream, server: SocketAddr, delay: &Arc<AtomicU64>) -> io::Result<()> {
    let server = TcpStream::connect(server)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (questions, answers) = ((client.try_clone()?, server.try_clone()?), (server, client));
    let delay = Arc::clone(delay);
    let spawn =
        |work: Box<dyn FnOnce() + Send>| thread::Builder::new().name("relay".into()).spawn(work);
    spawn(Box::new(move || {
        pass(questions.0, questions.1, &AtomicU64::new(0))
    }))?;
    spawn(Box::new(move || pass(answers.0, answers.1, &delay)))?;
    Ok(())
}

fn pass(mut from: TcpStream, mut to: TcpStream, delay_ms: &AtomicU64) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        match delay_ms.load(Ordering::Relaxed) {
            0 => {}
            millis => thread::sleep(Duration::from_millis(millis)),
        }
        if to.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    // A peer that is gone already needs no word.
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn ask(address: SocketAddr) -> io::Result<[u8; 4]> {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(b"ping")?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    }

    fn echo_once(listener: &TcpListener) {
        let (mut stream, _) = listener.accept().unwrap();
        let mut question = [0; 4];
        stream.read_exact(&mut question).unwrap();
        stream.write_all(&question).unwrap();
    }

    #[test]
    fn passes_delays_and_refuses_as_the_server_does() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let relay = Relay::start(server.local_addr().unwrap()).unwrap();
        let echo = thread::spawn(move || {
            echo_once(&server);
            echo_once(&server);
        });
        assert_eq!(&ask(relay.address()).unwrap(), b"ping");

        relay.set_delay(Duration::from_millis(80));
        let started = Instant::now();
        assert_eq!(&ask(relay.address()).unwrap(), b"ping");
        assert!(
            started.elapsed() >= Duration::from_millis(80),
            "the answer was not held back"
        );

        echo.join().unwrap();
        assert!(ask(relay.address()).is_err());
        let refused = (0..50).any(|_| {
            thread::sleep(Duration::from_millis(10));
            let error = TcpStream::connect(relay.address()).err();
            error.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        });
        assert!(refused, "nobody listens behind the relay");
    }
}
