//! OTLP over gRPC.

use std::error::Error;
use std::str::FromStr;

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use tonic::codec::CompressionEncoding;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{
    Endpoint, MAX_RETRY_AFTER, Outcome, Request, TransportError, accepted, read, user_agent,
    with_causes,
};

/// Connects when it first sends, and again after a loss.
pub(in crate::export) struct GrpcClient {
    channel: Channel,
    metadata: MetadataMap,
    gzip: bool,
}

/// Sends through the generated client of one signal.
macro_rules! export {
    ($client:ident, $self:ident, $message:expr, $rejected:ident) => {{
        let mut client = $client::new($self.channel.clone());
        if $self.gzip {
            client = client
                .send_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Gzip);
        }
        let mut request = tonic::Request::new($message.clone());
        *request.metadata_mut() = $self.metadata.clone();
        let response = client.export(request).await?;
        Ok(response
            .into_inner()
            .partial_success
            .map(|p| (p.$rejected, p.error_message)))
    }};
}

impl GrpcClient {
    pub(super) fn new(config: &Endpoint) -> Result<Self, TransportError> {
        let invalid = |error: tonic::transport::Error| TransportError::endpoint(config, error);
        let mut endpoint = Channel::from_shared(config.url.clone())
            .map_err(|error| TransportError::endpoint(config, error))?
            .timeout(config.timeout)
            .connect_timeout(config.timeout)
            .user_agent(user_agent())
            .map_err(invalid)?;
        if config.url.starts_with("https://") {
            endpoint = endpoint.tls_config(tls(config)?).map_err(invalid)?;
        }
        let mut metadata = MetadataMap::new();
        for (key, value) in &config.headers {
            match (
                AsciiMetadataKey::from_str(key),
                AsciiMetadataValue::from_str(value),
            ) {
                (Ok(key), Ok(value)) => {
                    metadata.append(key, value);
                }
                _ => tracing::warn!(header = key, "header cannot be sent; ignored"),
            }
        }
        Ok(GrpcClient {
            channel: endpoint.connect_lazy(),
            metadata,
            gzip: config.gzip,
        })
    }

    pub(super) async fn send(&self, request: &Request) -> Outcome {
        match self.export(request).await {
            Ok(partial) => accepted(partial),
            Err(status) => classify(&status),
        }
    }

    async fn export(&self, request: &Request) -> Result<Option<(i64, String)>, Status> {
        match request {
            Request::Logs(m) => export!(LogsServiceClient, self, m, rejected_log_records),
            Request::Traces(m) => export!(TraceServiceClient, self, m, rejected_spans),
            Request::Metrics(m) => export!(MetricsServiceClient, self, m, rejected_data_points),
        }
    }
}

fn tls(config: &Endpoint) -> Result<ClientTlsConfig, TransportError> {
    let files = &config.tls;
    let mut tls = match &files.certificate {
        Some(path) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(path)?)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    if let (Some(certificate), Some(key)) = (&files.client_certificate, &files.client_key) {
        tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    Ok(tls)
}

/// The OTLP specification's table of retryable codes; `RESOURCE_EXHAUSTED` only when the server
/// says when to come back. An error of the connection itself is retryable.
fn classify(status: &Status) -> Outcome {
    let after = status
        .get_details_retry_info()
        .and_then(|info| info.retry_delay);
    let reason = match status.source() {
        Some(cause) => format!("{:?}: {}", status.code(), with_causes(cause)),
        None => format!("{:?}: {}", status.code(), status.message()),
    };
    let retryable = match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::ResourceExhausted => after.is_some(),
        Code::Unknown | Code::Internal => status.source().is_some(),
        _ => false,
    };
    match retryable {
        true => Outcome::Retry {
            after: after.map(|a| a.min(MAX_RETRY_AFTER)),
            reason,
        },
        false => Outcome::Refused { reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_retried_as_the_specification_says() {
        let retried = |code| matches!(classify(&Status::new(code, "x")), Outcome::Retry { .. });
        for code in [
            Code::Unavailable,
            Code::DeadlineExceeded,
            Code::Aborted,
            Code::DataLoss,
        ] {
            assert!(retried(code), "{code:?}");
        }
        for code in [
            Code::InvalidArgument,
            Code::Unauthenticated,
            Code::PermissionDenied,
            Code::Unimplemented,
            Code::ResourceExhausted,
            Code::Internal,
        ] {
            assert!(!retried(code), "{code:?}");
        }
        let details = tonic_types::ErrorDetails::with_retry_info(Some(MAX_RETRY_AFTER * 9));
        let throttled = Status::with_error_details(Code::ResourceExhausted, "slow down", details);
        let Outcome::Retry { after, .. } = classify(&throttled) else {
            panic!("not retried")
        };
        assert_eq!(after, Some(MAX_RETRY_AFTER));
    }
}
