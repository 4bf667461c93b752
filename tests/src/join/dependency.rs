//! What servers ask in turn: takes connections, and resets them once it was asked something.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
};

const THREADS: usize = 8;

/// At every address of this machine's loopback.
pub(super) struct Dependency {
    pub(super) port: u16,
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Dependency {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (listener, ended) = (Arc::new(listener), Arc::new(AtomicBool::new(false)));
        let thread = |_| {
            let (listener, ended) = (listener.clone(), ended.clone());
            std::thread::spawn(move || {
                while !ended.load(Relaxed) {
                    if let Ok((connection, _)) = listener.accept() {
                        // With what was not read, the end of a connection is a reset.
                        let _ = connection.peek(&mut [0]);
                    }
                }
            })
        };
        let threads = (0..THREADS).map(thread).collect();
        Self {
            port,
            ended,
            threads,
        }
    }
}

impl Drop for Dependency {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        for _ in 0..THREADS {
            let _ = TcpStream::connect(address);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
