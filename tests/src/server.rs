//! A server that the test itself runs.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
};

/// Answers `PING` as a redis-server does; gone when stopped: connections are then refused.
pub struct Server {
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(address: &str) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let stop = Arc::new(AtomicBool::new(false));
        let address = listener.local_addr()?;
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            for client in listener.incoming() {
                if stopped.load(Relaxed) {
                    return;
                }
                let mut question = [0; 6];
                let answered: io::Result<()> = client.and_then(|mut client| {
                    client.read_exact(&mut question)?;
                    client.write_all(b"+PONG\r\n")
                });
                // A client may leave whenever it likes.
                drop(answered);
            }
        });
        Ok(Server {
            address,
            stop,
            thread: Some(thread),
        })
    }

    pub fn stop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.stop.store(true, Relaxed);
            let _ = TcpStream::connect(self.address);
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}
