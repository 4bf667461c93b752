//! OTLP over gRPC.

use std::error::Error;
use std::str::FromStr;

use prost::bytes::{Buf, BufMut, Bytes};
use tonic::client::Grpc as Client;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tonic::{Code, Extensions, Request, Status};
use tonic_types::StatusExt;

use super::{
    Endpoint, MAX_RETRY_AFTER, Outcome, Signal, TransportError, accepted, read, user_agent,
    with_causes,
};

/// Connects when it first sends, and again after a loss.
pub(super) struct Grpc {
    channel: Channel,
    path: PathAndQuery,
    metadata: MetadataMap,
    gzip: bool,
}

impl Grpc {
    pub(super) fn new(signal: Signal, config: &Endpoint) -> Result<Self, TransportError> {
        let invalid = |error: tonic::transport::Error| TransportError::endpoint(&config.url, error);
        let mut endpoint = Channel::from_shared(config.url.clone())
            .map_err(|error| TransportError::endpoint(&config.url, error))?
            .timeout(config.timeout)
            .connect_timeout(config.timeout)
            .user_agent(user_agent())
            .map_err(invalid)?;
        if endpoint.uri().scheme_str() == Some("https") {
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
        Ok(Grpc {
            channel: endpoint.connect_lazy(),
            path: path(signal),
            metadata,
            gzip: config.gzip,
        })
    }

    pub(super) async fn send(&self, message: Bytes) -> Outcome {
        match self.call(message).await {
            Ok(answer) => accepted(&answer),
            Err(status) => classify(&status),
        }
    }

    async fn call(&self, message: Bytes) -> Result<Bytes, Status> {
        let mut client = Client::new(self.channel.clone());
        if self.gzip {
            client = client
                .send_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Gzip);
        }
        client
            .ready()
            .await
            .map_err(|error| Status::from_error(error.into()))?;
        let request = Request::from_parts(self.metadata.clone(), Extensions::new(), message);
        let answer = client.unary(request, self.path.clone(), Raw).await?;
        Ok(answer.into_inner())
    }
}

fn path(signal: Signal) -> PathAndQuery {
    PathAndQuery::from_static(match signal {
        Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    })
}

/// The codec of messages that are encoded already, and of answers that are decoded elsewhere.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
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
