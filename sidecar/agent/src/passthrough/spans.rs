//! What an OTLP request of an application says of its spans.

use std::io::Read as _;

use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use prost::Message as _;

use crate::record::{Nanos, OwnSpan, TraceParent};

/// Bytes of a request that are looked at, unpacked.
pub(super) const MAX_REQUEST: usize = 8 << 20;
/// `trace_flags`: it is exported, so it is sampled.
const SAMPLED: u8 = 1;

/// How a request's body is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    /// Protobuf over HTTP.
    Http { gzip: bool },
    /// One message of a unary gRPC call.
    Grpc { gzip: bool },
}

/// Why a request's spans are not known. It is forwarded all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unread {
    #[error("it is longer than is looked at")]
    TooLong,
    #[error("it does not unpack")]
    Packed,
    #[error("it is no OTLP request")]
    NotOtlp,
}

/// The spans of a request that came at `at_ns`. `unix_offset_ns`: Unix time minus the records' time.
pub(super) fn of_request(
    body: &[u8],
    packing: Packing,
    at_ns: Nanos,
    unix_offset_ns: i64,
) -> Result<Vec<OwnSpan>, Unread> {
    let (message, gzip) = match packing {
        Packing::Http { gzip } => (body, gzip),
        Packing::Grpc { gzip } => grpc_message(body, gzip)?,
    };
    let unpacked;
    let message = match gzip {
        true => {
            unpacked = unpack(message)?;
            &unpacked[..]
        }
        false => message,
    };
    let request = ExportTraceServiceRequest::decode(message).map_err(|_| Unread::NotOtlp)?;
    let scopes = request.resource_spans.iter().flat_map(|of| &of.scope_spans);
    let spans = scopes.flat_map(|scope| &scope.spans);
    let own = |span| own_span(span, at_ns, unix_offset_ns);
    Ok(spans.filter_map(own).collect())
}

/// One byte says whether it is compressed, four how long it is.
fn grpc_message(body: &[u8], gzip: bool) -> Result<(&[u8], bool), Unread> {
    let (head, message) = body.split_first_chunk::<5>().ok_or(Unread::NotOtlp)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    let message = message.get(..length).ok_or(Unread::NotOtlp)?;
    match head[0] {
        0 => Ok((message, false)),
        1 if gzip => Ok((message, true)),
        _ => Err(Unread::Packed),
    }
}

fn unpack(packed: &[u8]) -> Result<Vec<u8>, Unread> {
    let mut unpacked = Vec::new();
    let limit = MAX_REQUEST as u64 + 1;
    let read = GzDecoder::new(packed)
        .take(limit)
        .read_to_end(&mut unpacked);
    match read {
        Ok(bytes) if bytes <= MAX_REQUEST => Ok(unpacked),
        Ok(_) => Err(Unread::TooLong),
        Err(_) => Err(Unread::Packed),
    }
}

/// None of a span without valid ids.
fn own_span(span: &Span, at_ns: Nanos, unix_offset_ns: i64) -> Option<OwnSpan> {
    let trace_id: [u8; 16] = span.trace_id.as_slice().try_into().ok()?;
    let span_id: [u8; 8] = span.span_id.as_slice().try_into().ok()?;
    let time = |unix: u64| unix.saturating_add_signed(unix_offset_ns.saturating_neg());
    let valid = trace_id != [0; 16] && span_id != [0; 8];
    valid.then(|| OwnSpan {
        at_ns,
        span: TraceParent {
            trace_id,
            span_id,
            flags: span.flags as u8 | SAMPLED,
        },
        parent: span.parent_span_id.as_slice().try_into().ok(),
        serves: matches!(span.kind(), SpanKind::Server | SpanKind::Consumer),
        start_ns: time(span.start_time_unix_nano),
        end_ns: time(span.end_time_unix_nano),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};

    use super::*;

    const OFFSET: i64 = 1_000;

    fn request() -> Vec<u8> {
        let span = |id: u8, kind: SpanKind| Span {
            trace_id: vec![7; 16],
            span_id: vec![id; 8],
            parent_span_id: vec![1; 8],
            kind: kind.into(),
            start_time_unix_nano: 1_500,
            end_time_unix_nano: 1_700,
            ..Span::default()
        };
        let spans = vec![
            span(2, SpanKind::Server),
            span(3, SpanKind::Client),
            span(0, SpanKind::Server),
            Span::default(),
        ];
        let scope_spans = vec![ScopeSpans {
            spans,
            ..ScopeSpans::default()
        }];
        let resource_spans = vec![ResourceSpans {
            scope_spans,
            ..ResourceSpans::default()
        }];
        ExportTraceServiceRequest { resource_spans }.encode_to_vec()
    }

    fn gzipped(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn framed(message: &[u8], compressed: bool) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[u8::from(compressed)], &length[..], message].concat()
    }

    fn read(body: &[u8], packing: Packing) -> Result<Vec<OwnSpan>, Unread> {
        of_request(body, packing, 900, OFFSET)
    }

    #[test]
    fn spans_are_found_however_a_request_is_packed() {
        let plain = request();
        let gzip = gzipped(&plain);
        let expected = read(&plain, Packing::Http { gzip: false }).unwrap();
        let [server, client] = &expected[..] else {
            panic!("{expected:?}");
        };
        assert_eq!(
            (server.start_ns, server.end_ns, server.at_ns),
            (500, 700, 900)
        );
        assert_eq!((server.serves, client.serves), (true, false));
        assert_eq!((server.parent, server.span.flags), (Some([1; 8]), 1));
        for (body, packing) in [
            (gzip.clone(), Packing::Http { gzip: true }),
            (framed(&plain, false), Packing::Grpc { gzip: false }),
            (framed(&plain, false), Packing::Grpc { gzip: true }),
            (framed(&gzip, true), Packing::Grpc { gzip: true }),
        ] {
            assert_eq!(read(&body, packing).as_ref(), Ok(&expected), "{packing:?}");
        }
    }

    #[test]
    fn what_is_no_request_is_said() {
        let plain = request();
        let http = Packing::Http { gzip: false };
        assert_eq!(read(b"{\"resourceSpans\":[]}", http), Err(Unread::NotOtlp));
        assert_eq!(
            read(&plain, Packing::Http { gzip: true }),
            Err(Unread::Packed)
        );
        let grpc = Packing::Grpc { gzip: false };
        assert_eq!(read(&[0, 0, 0], grpc), Err(Unread::NotOtlp));
        assert_eq!(read(&framed(&plain, true), grpc), Err(Unread::Packed));
        let cut = &framed(&plain, false)[..20];
        assert_eq!(read(cut, grpc), Err(Unread::NotOtlp));
        // A small request that unpacks to a large one.
        let bomb = gzipped(&vec![0; MAX_REQUEST + 10]);
        assert_eq!(
            read(&bomb, Packing::Http { gzip: true }),
            Err(Unread::TooLong)
        );
    }
}
