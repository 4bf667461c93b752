//! OTLP over HTTP with protobuf bodies.

use std::io::Write;
use std::time::{Duration, SystemTime};

use flate2::{Compression, write::GzEncoder};
use hyper::http::uri::Uri;
use opentelemetry_http::Bytes;
use reqwest::header::{
    CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
};
use reqwest::redirect::Policy;
use reqwest::{Certificate, ClientBuilder, Identity, Response, StatusCode};

use super::{
    Endpoint, MAX_RETRY_AFTER, Outcome, TransportError, accepted, read, user_agent, with_causes,
};

/// More of an answer is not read.
const MAX_ANSWER: usize = 64 * 1024;

pub(super) struct Http {
    client: reqwest::Client,
    url: String,
    headers: HeaderMap,
    gzip: bool,
}

impl Http {
    pub(super) fn new(config: &Endpoint) -> Result<Self, TransportError> {
        let invalid = |error: reqwest::Error| TransportError::endpoint(&config.url, error);
        let mut builder = reqwest::Client::builder()
            .timeout(config.timeout)
            .user_agent(user_agent())
            .redirect(Policy::none());
        let url = config.url.parse::<Uri>();
        if url.is_ok_and(|url| url.scheme_str() == Some("https")) {
            builder = with_files(builder, config)?;
        }
        let mut headers = HeaderMap::new();
        for (key, value) in &config.headers {
            match (
                HeaderName::from_bytes(key.as_bytes()),
                HeaderValue::from_str(value),
            ) {
                (Ok(key), Ok(value)) => {
                    headers.append(key, value);
                }
                _ => tracing::warn!(header = key, "header cannot be sent; ignored"),
            }
        }
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-protobuf"),
        );
        if config.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let client = builder.build().map_err(invalid)?;
        Ok(Http {
            client,
            url: config.url.clone(),
            headers,
            gzip: config.gzip,
        })
    }

    pub(super) async fn send(&self, message: Bytes) -> Outcome {
        let body = match self.gzip.then(|| compress(&message)) {
            Some(Ok(compressed)) => compressed.into(),
            Some(Err(error)) => {
                return Outcome::Refused {
                    reason: error.to_string(),
                };
            }
            None => message,
        };
        let post = self
            .client
            .post(&self.url)
            .headers(self.headers.clone())
            .body(body);
        match post.send().await {
            Ok(response) => answer(response).await,
            Err(error) => Outcome::Retry {
                after: None,
                reason: with_causes(&error),
            },
        }
    }
}

/// The server's and the client's certificates from the environment's files.
fn with_files(
    mut builder: ClientBuilder,
    config: &Endpoint,
) -> Result<ClientBuilder, TransportError> {
    let invalid = |error: reqwest::Error| TransportError::endpoint(&config.url, error);
    let files = &config.tls;
    if let Some(path) = &files.certificate {
        let roots = Certificate::from_pem_bundle(&read(path)?).map_err(invalid)?;
        builder = builder.tls_certs_only(roots);
    }
    if let (Some(certificate), Some(key)) = (&files.client_certificate, &files.client_key) {
        // The first file may lack the end of its last line.
        let pem = [read(certificate)?, read(key)?].join(&b'\n');
        builder = builder.identity(Identity::from_pem(&pem).map_err(invalid)?);
    }
    Ok(builder)
}

async fn answer(mut response: Response) -> Outcome {
    let status = response.status();
    if !status.is_success() {
        return classify(status, response.headers().get(RETRY_AFTER));
    }
    let mut body = Vec::new();
    // The request was taken in; an answer that breaks off changes nothing about that.
    while let Ok(Some(chunk)) = response.chunk().await {
        if body.len() + chunk.len() > MAX_ANSWER {
            return accepted(&[]);
        }
        body.extend_from_slice(&chunk);
    }
    accepted(&body)
}

/// The OTLP specification's retryable answers: 429, 502, 503 and 504.
fn classify(status: StatusCode, retry_after: Option<&HeaderValue>) -> Outcome {
    let reason = format!("HTTP {status}");
    match status.as_u16() {
        429 | 502..=504 => {
            let after = retry_after.and_then(|value| seconds_or_date(value.to_str().ok()?.trim()));
            Outcome::Retry {
                after: after.map(|a| a.min(MAX_RETRY_AFTER)),
                reason,
            }
        }
        _ => Outcome::Refused { reason },
    }
}

/// `Retry-After`: seconds from now, or a date.
fn seconds_or_date(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

fn compress(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_retried_as_the_specification_says() {
        let retried = |status| {
            let status = StatusCode::from_u16(status).unwrap();
            matches!(classify(status, None), Outcome::Retry { .. })
        };
        assert!([429, 502, 503, 504].into_iter().all(retried));
        assert!(![301, 400, 401, 404, 413, 500, 501].into_iter().any(retried));
        let header = HeaderValue::from_static("7");
        let Outcome::Retry { after, .. } = classify(StatusCode::SERVICE_UNAVAILABLE, Some(&header))
        else {
            panic!("not retried")
        };
        assert_eq!(after, Some(Duration::from_secs(7)));
        let past = "Fri, 31 Dec 1999 23:59:59 GMT";
        assert_eq!(seconds_or_date(past), Some(Duration::ZERO));
        assert_eq!(seconds_or_date("soon"), None);
    }
}
