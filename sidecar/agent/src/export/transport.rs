//! Sends one OTLP request and says what the collector answered.

mod grpc;
mod http;

use std::path::{Path, PathBuf};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;

use super::VERSION;
use super::config::{Endpoint, Protocol};

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
    fn endpoint(endpoint: &Endpoint, reason: impl std::error::Error) -> Self {
        TransportError::Endpoint {
            url: endpoint.url.clone(),
            reason: with_causes(&reason),
        }
    }
}

/// A request of one signal.
#[derive(Debug)]
pub(super) enum Request {
    Logs(ExportLogsServiceRequest),
    Traces(ExportTraceServiceRequest),
    Metrics(ExportMetricsServiceRequest),
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

pub(super) enum Client {
    Grpc(grpc::GrpcClient),
    Http(http::HttpClient),
}

impl Client {
    pub(super) fn new(endpoint: &Endpoint) -> Result<Self, TransportError> {
        // Another part of the process may have installed one already: either serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(match endpoint.protocol {
            Protocol::Grpc => Client::Grpc(grpc::GrpcClient::new(endpoint)?),
            Protocol::HttpProtobuf => Client::Http(http::HttpClient::new(endpoint)?),
        })
    }

    pub(super) async fn send(&self, request: &Request) -> Outcome {
        match self {
            Client::Grpc(client) => client.send(request).await,
            Client::Http(client) => client.send(request).await,
        }
    }
}

/// The answer to an accepted request.
fn accepted(partial: Option<(i64, String)>) -> Outcome {
    let (rejected, message) = partial.unwrap_or_default();
    Outcome::Accepted {
        rejected: u64::try_from(rejected).unwrap_or(0),
        message,
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
