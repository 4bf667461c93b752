//! Takes the OTLP of applications, forwards it unchanged, and learns their spans from it.
//!
//! An application that sends its telemetry to the sidecar instead of the collector notices nothing:
//! requests, answers and status codes pass as they are, over HTTP and gRPC. A collector that cannot be
//! reached is one that is unavailable for the application, which tries again. What is looked at is a
//! bounded copy of requests with spans; where that fails, nothing but the copy is lost, and counted.
//!
//! | module | |
//! | --- | --- |
//! | `forward` | one request, to the collector and back |
//! | `tee` | a body on its way, and its copy |
//! | `spans` | what a request says; no I/O |

mod forward;
mod spans;
mod tee;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hyper::http::uri::Uri;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::record::{Nanos, OwnSpan};
use forward::{Copied, Forward};

/// Connections at a time; further ones wait.
const CONNECTIONS: usize = 64;
/// Requests at a time of one connection.
const STREAMS: u32 = 16;
/// Copies that wait to be read; further ones are dropped.
const COPIES: usize = 16;
/// Requests' spans that wait to be taken.
const READ: usize = 64;

/// What the pass-through is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassthroughConfig {
    /// Addresses that applications send to.
    pub listen: Vec<SocketAddr>,
    /// Where gRPC goes; without it, it is refused.
    pub grpc: Option<Uri>,
    /// Where HTTP goes, with the request's path below it.
    pub http: Option<Uri>,
    /// PEM file of certificates to trust instead of the machine's.
    pub certificate: Option<PathBuf>,
    /// PEM files of a certificate and its key, for a collector that asks for one.
    pub client: Option<(PathBuf, PathBuf)>,
}

#[derive(Debug, thiserror::Error)]
pub enum PassthroughError {
    #[error("OTLP pass-through: {address}: {source}")]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("OTLP pass-through: {}: {reason}", path.display())]
    Certificate { path: PathBuf, reason: String },
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassthroughStats {
    /// Requests with spans that passed.
    pub requests: u64,
    /// Those among them whose spans are not known: too long, not readable, or too many at once.
    pub unread: u64,
    pub spans: u64,
}

#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    unread: AtomicU64,
    spans: AtomicU64,
}

/// Serves until it is dropped.
pub struct Passthrough {
    spans: mpsc::Receiver<Vec<OwnSpan>>,
    addresses: Vec<SocketAddr>,
    counters: Arc<Counters>,
    _tasks: JoinSet<()>,
}

impl Passthrough {
    /// `now` gives the records' time; `unix_offset_ns` is Unix time minus it.
    pub async fn start(
        config: &PassthroughConfig,
        now: fn() -> Nanos,
        unix_offset_ns: i64,
    ) -> Result<Self, PassthroughError> {
        // Another part of the process may have installed one already: either serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let counters = Arc::<Counters>::default();
        let (copies, copied) = mpsc::channel(COPIES);
        let (read, spans) = mpsc::channel(READ);
        let counted = Arc::clone(&counters);
        let keep = move |copy: Copied| {
            counted.requests.fetch_add(1, Relaxed);
            if copies.try_send(copy).is_err() {
                counted.unread.fetch_add(1, Relaxed);
            }
        };
        let forward = Arc::new(Forward::new(config, keep)?);
        let mut tasks = JoinSet::new();
        let mut addresses = Vec::new();
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        for address in &config.listen {
            let listen = |source| PassthroughError::Listen {
                address: *address,
                source,
            };
            let listener = TcpListener::bind(address).await.map_err(listen)?;
            addresses.push(listener.local_addr().map_err(listen)?);
            tasks.spawn(serve(listener, Arc::clone(&forward), Arc::clone(&room)));
        }
        tasks.spawn(look_at(
            copied,
            read,
            Arc::clone(&counters),
            now,
            unix_offset_ns,
        ));
        Ok(Self {
            spans,
            addresses,
            counters,
            _tasks: tasks,
        })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The spans of the next request.
    pub async fn next(&mut self) -> Vec<OwnSpan> {
        match self.spans.recv().await {
            Some(spans) => spans,
            // Not before it is dropped.
            None => std::future::pending().await,
        }
    }

    pub fn stats(&self) -> PassthroughStats {
        PassthroughStats {
            requests: self.counters.requests.load(Relaxed),
            unread: self.counters.unread.load(Relaxed),
            spans: self.counters.spans.load(Relaxed),
        }
    }
}

async fn serve(listener: TcpListener, forward: Arc<Forward>, room: Arc<Semaphore>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "an application's connection was not taken");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let forward = Arc::clone(&forward);
        connections.spawn(async move {
            connection(stream, forward).await;
            drop(permit);
        });
    }
}

async fn connection(stream: TcpStream, forward: Arc<Forward>) {
    // A small answer is not to wait for more.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let forward = Arc::clone(&forward);
        async move { Ok::<_, Infallible>(forward.carry(request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http2().max_concurrent_streams(STREAMS);
    let served = builder
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(error, "an application's connection ended");
    }
}

async fn look_at(
    mut copied: mpsc::Receiver<Copied>,
    read: mpsc::Sender<Vec<OwnSpan>>,
    counters: Arc<Counters>,
    now: fn() -> Nanos,
    unix_offset_ns: i64,
) {
    while let Some(Copied { body, packing }) = copied.recv().await {
        let spans = body
            .ok_or(spans::Unread::TooLong)
            .and_then(|body| spans::of_request(&body, packing, now(), unix_offset_ns));
        let sent = match spans {
            Ok(spans) => {
                counters.spans.fetch_add(spans.len() as u64, Relaxed);
                read.try_send(spans).is_ok()
            }
            Err(reason) => {
                tracing::debug!(%reason, "the spans of a forwarded request are not known");
                false
            }
        };
        if !sent {
            counters.unread.fetch_add(1, Relaxed);
        }
    }
}
