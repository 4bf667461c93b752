//! Carries single requests to the collector, and its answers back.

use std::path::Path;
use std::sync::Arc;

use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::{PathAndQuery, Uri};
use hyper::{Request, Response, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use super::spans::{MAX_REQUEST, Packing};
use super::tee::Tee;
use super::{PassthroughConfig, PassthroughError};

type Error = Box<dyn std::error::Error + Send + Sync>;
type Body = BoxBody<Bytes, Error>;

const TRACES_OVER_GRPC: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const TRACES_OVER_HTTP: &str = "/v1/traces";
/// They speak of one connection, not of the request. `te` is what gRPC asks for trailers by.
const OF_CONNECTION: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::HOST,
];
/// gRPC's `UNAVAILABLE`: worth another attempt.
const UNAVAILABLE: &str = "14";

/// A request's body that passed whole.
pub(super) struct Copied {
    pub(super) body: Option<Vec<u8>>,
    pub(super) packing: Packing,
}

/// Where one protocol's requests go.
struct Upstream {
    base: Uri,
    client: Client<HttpsConnector<HttpConnector>, Body>,
}

pub(super) struct Forward {
    grpc: Option<Upstream>,
    http: Option<Upstream>,
    copied: Box<dyn Fn(Copied) + Send + Sync>,
}

impl Forward {
    /// `copied` is handed the bodies of requests with spans.
    pub(super) fn new(
        config: &PassthroughConfig,
        copied: impl Fn(Copied) + Send + Sync + 'static,
    ) -> Result<Self, PassthroughError> {
        let tls = tls(config)?;
        let upstream = |base: &Uri, grpc| Upstream {
            base: base.clone(),
            client: client(tls.clone(), grpc),
        };
        Ok(Self {
            grpc: config.grpc.as_ref().map(|base| upstream(base, true)),
            http: config.http.as_ref().map(|base| upstream(base, false)),
            copied: Box::new(copied),
        })
    }

    /// What the collector answers; where it cannot be asked, an answer after which applications try
    /// again.
    pub(super) async fn carry(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let is_grpc = is_grpc(request.headers());
        let upstream = match is_grpc {
            true => &self.grpc,
            false => &self.http,
        };
        let Some(upstream) = upstream else {
            return unavailable(is_grpc, "stethos has no collector for this protocol");
        };
        let Some(uri) = below(&upstream.base, request.uri().path_and_query()) else {
            return unavailable(is_grpc, "stethos cannot make an address of this path");
        };
        let with_spans = [TRACES_OVER_GRPC, TRACES_OVER_HTTP].contains(&request.uri().path());
        let packing = packing(request.headers(), is_grpc);
        let (mut parts, body) = request.into_parts();
        parts.uri = uri;
        parts.version = hyper::Version::default();
        without_connection(&mut parts.headers);
        let body = match with_spans {
            true => {
                let of = Arc::clone(&self);
                let whole = move |body| (of.copied)(Copied { body, packing });
                Tee::new(body, MAX_REQUEST, whole)
                    .map_err(Into::into)
                    .boxed()
            }
            false => body.map_err(Into::into).boxed(),
        };
        match upstream
            .client
            .request(Request::from_parts(parts, body))
            .await
        {
            Ok(response) => {
                let (mut parts, body) = response.into_parts();
                without_connection(&mut parts.headers);
                Response::from_parts(parts, body.map_err(Into::into).boxed())
            }
            Err(error) => {
                tracing::debug!(%error, "what an application sent was not forwarded");
                unavailable(is_grpc, "stethos does not reach the collector")
            }
        }
    }
}

fn client(tls: rustls::ClientConfig, grpc: bool) -> Client<HttpsConnector<HttpConnector>, Body> {
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http();
    let mut builder = Client::builder(TokioExecutor::new());
    match grpc {
        true => builder
            .http2_only(true)
            .build(connector.enable_http2().build()),
        false => builder.build(connector.enable_http1().build()),
    }
}

/// Trusts the certificates in the file, else those of the machine; shows its own where there is one.
fn tls(config: &PassthroughConfig) -> Result<rustls::ClientConfig, PassthroughError> {
    let mut roots = rustls::RootCertStore::empty();
    match &config.certificate {
        Some(path) => roots.add_parsable_certificates(certificates(path)?),
        None => roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
    };
    let builder = rustls::ClientConfig::builder().with_root_certificates(roots);
    let Some((certificate, key)) = &config.client else {
        return Ok(builder.with_no_client_auth());
    };
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, &error))?;
    builder
        .with_client_auth_cert(certificates(certificate)?, private)
        .map_err(|error| wrong(certificate, &error))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PassthroughError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| wrong(path, &error))
}

fn wrong(path: &Path, error: &dyn std::error::Error) -> PassthroughError {
    PassthroughError::Certificate {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let content = headers.get(header::CONTENT_TYPE);
    content.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn packing(headers: &HeaderMap, grpc: bool) -> Packing {
    let says_gzip = |name: &str| headers.get(name).is_some_and(|value| value == "gzip");
    match grpc {
        true => Packing::Grpc {
            gzip: says_gzip("grpc-encoding"),
        },
        false => Packing::Http {
            gzip: says_gzip("content-encoding"),
        },
    }
}

/// The path below the collector's address.
fn below(base: &Uri, path: Option<&PathAndQuery>) -> Option<Uri> {
    let path = path.map_or("/", PathAndQuery::as_str);
    let prefix = base.path().trim_end_matches('/');
    let mut parts = base.clone().into_parts();
    parts.path_and_query = Some(format!("{prefix}{path}").parse().ok()?);
    Uri::from_parts(parts).ok()
}

fn without_connection(headers: &mut HeaderMap) {
    for name in &OF_CONNECTION {
        headers.remove(name);
    }
}

fn unavailable(grpc: bool, reason: &'static str) -> Response<Body> {
    let (body, status) = match grpc {
        true => (Bytes::new(), StatusCode::OK),
        false => (
            Bytes::from_static(reason.as_bytes()),
            StatusCode::SERVICE_UNAVAILABLE,
        ),
    };
    let mut response = Response::new(Full::new(body).map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    if grpc {
        let headers = response.headers_mut();
        let content = HeaderValue::from_static("application/grpc");
        headers.insert(header::CONTENT_TYPE, content);
        headers.insert("grpc-status", HeaderValue::from_static(UNAVAILABLE));
        headers.insert("grpc-message", HeaderValue::from_static(reason));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lie_below_the_collectors_address() {
        for (base, path, expected) in [
            ("http://c:4318", "/v1/traces", "http://c:4318/v1/traces"),
            (
                "http://c:4318/",
                "/v1/logs?a=b",
                "http://c:4318/v1/logs?a=b",
            ),
            ("https://c/otlp/", "/v1/traces", "https://c/otlp/v1/traces"),
        ] {
            let path = path.parse().unwrap();
            let found = below(&base.parse().unwrap(), Some(&path)).unwrap();
            assert_eq!(found, expected);
        }
    }
}
