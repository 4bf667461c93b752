//! Carries encoded requests to the collector, and says what it answered.
//!
//! A [`Courier`] sends a request's body over HTTP or, as the message of a unary call, over gRPC (the
//! bytes are the same). The own clients of `opentelemetry-otlp` only log the answer, and of a partial
//! success or a status they tell no more than a text.

mod grpc;
mod http;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use opentelemetry_http::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use prost::Message;

use super::VERSION;
use super::config::{Endpoint, Protocol, Signal};

/// A server may not hold a batch longer than this.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);

/// The endpoint cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    #[error("{}: cannot be read for the OTLP exporter's TLS: {source}", path.display())]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("OTLP endpoint {url}: {reason}")]
    Endpoint { url: String, reason: String },
}

impl TransportError {
    pub(super) fn endpoint(url: &str, reason: impl std::error::Error) -> Self {
        TransportError::Endpoint {
            url: url.to_owned(),
            reason: with_causes(&reason),
        }
    }
}

/// What became of one attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Taken in, but for `rejected` records. Never sent again.
    Accepted {
        rejected: u64,
        message: String,
    },
    /// Worth another attempt, not before `after` if the collector said so.
    Retry {
        after: Option<Duration>,
        reason: String,
    },
    Refused {
        reason: String,
    },
}

/// Carries the requests of one signal over one connection, one after the other.
pub(super) struct Courier {
    url: String,
    wire: Wire,
}

enum Wire {
    Grpc(grpc::Grpc),
    Http(http::Http),
}

impl Courier {
    pub(super) fn new(signal: Signal, endpoint: &Endpoint) -> Result<Self, TransportError> {
        // Another part of the process may have installed one already: either serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let wire = match endpoint.protocol {
            Protocol::Grpc => Wire::Grpc(grpc::Grpc::new(signal, endpoint)?),
            Protocol::HttpProtobuf => Wire::Http(http::Http::new(endpoint)?),
        };
        Ok(Courier {
            url: endpoint.url.clone(),
            wire,
        })
    }

    /// One attempt.
    pub(super) async fn send(&self, body: Bytes) -> Outcome {
        match &self.wire {
            Wire::Grpc(grpc) => grpc.send(body).await,
            Wire::Http(http) => http.send(body).await,
        }
    }
}

/// Without the headers, which may hold secrets.
impl fmt::Debug for Courier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Courier")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// The answer to a request that was taken in. One that cannot be read changes nothing about that.
/// All signals' answers are the same bytes; only the names of the fields differ.
fn accepted(answer: &[u8]) -> Outcome {
    let answer = ExportLogsServiceResponse::decode(answer).unwrap_or_default();
    let partial = answer.partial_success.unwrap_or_default();
    Outcome::Accepted {
        rejected: u64::try_from(partial.rejected_log_records).unwrap_or(0),
        message: partial.error_message,
    }
}

fn user_agent() -> String {
    format!("stethos/{VERSION}")
}

fn read(path: &Path) -> Result<Vec<u8>, TransportError> {
    std::fs::read(path).map_err(|source| TransportError::File {
        path: path.into(),
        source,
    })
}

/// An error's message with those of its causes.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let reason = error.to_string();
        if !text.contains(&reason) {
            text = format!("{text}: {reason}");
        }
        cause = error.source();
    }
    text
}
