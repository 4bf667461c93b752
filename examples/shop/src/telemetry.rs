//! OpenTelemetry spans around requests, and the W3C `traceparent` carried through them.
//!
//! Spans go to `OTEL_EXPORTER_OTLP_ENDPOINT` (OTLP over HTTP, protobuf) in batches. Without that
//! variable none are made, and an incoming `traceparent` is passed on as it came.

use std::time::Duration;

use opentelemetry::propagation::{Extractor, Injector};
use opentelemetry::trace::{SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue, global};
use opentelemetry_http::{Bytes, HttpClient, HttpError};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;

use crate::http::{Request, Response};

const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// Installs the propagator, and the exporter when an endpoint is given. `OTEL_SERVICE_NAME` goes
/// over `service`.
///
/// # Errors
/// When the endpoint is not a URL.
pub fn init(service: &str) -> Result<(), ExporterBuildError> {
    global::set_text_map_propagator(TraceContextPropagator::new());
    if std::env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT").is_none() {
        return Ok(());
    }
    let agent = ureq::Agent::config_builder()
        .timeout_global(Some(EXPORT_TIMEOUT))
        .http_status_as_error(false)
        .build()
        .new_agent();
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(OtlpClient(agent))
        .with_protocol(Protocol::HttpBinary)
        .build()?;
    let mut resource = Resource::builder();
    if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name(service.to_owned());
    }
    let provider = SdkTracerProvider::builder()
        .with_resource(resource.build())
        .with_batch_exporter(exporter)
        .build();
    global::set_tracer_provider(provider);
    Ok(())
}

/// Runs `handle` in a server span that continues the caller's trace; `route` is the path with its
/// variables unfilled.
pub fn serve(request: &Request, route: &str, handle: impl FnOnce() -> Response) -> Response {
    let parent = global::get_text_map_propagator(|propagator| {
        propagator.extract(&Headers(&request.headers))
    });
    let tracer = global::tracer("shop");
    let span = tracer
        .span_builder(format!("{} {route}", request.method))
        .with_kind(SpanKind::Server)
        .with_attributes([
            KeyValue::new("http.request.method", request.method.clone()),
            KeyValue::new("http.route", route.to_owned()),
            KeyValue::new("url.path", request.path.clone()),
        ])
        .start_with_context(&tracer, &parent);
    let context = parent.with_span(span);
    let attached = context.clone().attach();
    let response = handle();
    drop(attached);

    let span = context.span();
    span.set_attribute(KeyValue::new(
        "http.response.status_code",
        i64::from(response.status),
    ));
    if response.status >= 500 {
        let reason = response.body["error"].as_str().unwrap_or_default();
        span.set_status(Status::error(reason.to_owned()));
    }
    span.end();
    response
}

/// Runs `call` to a dependency in a client span, and marks the span when the call failed.
pub fn call<T, E: ToString>(
    name: String,
    attributes: Vec<KeyValue>,
    call: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let tracer = global::tracer("shop");
    let span = tracer
        .span_builder(name)
        .with_kind(SpanKind::Client)
        .with_attributes(attributes)
        .start(&tracer);
    let context = Context::current_with_span(span);
    let attached = context.clone().attach();
    let result = call();
    drop(attached);

    let span = context.span();
    if let Err(error) = &result {
        span.set_status(Status::error(error.to_string()));
    }
    span.end();
    result
}

/// The headers that carry the current span to a dependency.
pub fn outgoing_headers() -> Vec<(String, String)> {
    let mut headers = Outgoing::default();
    global::get_text_map_propagator(|propagator| propagator.inject(&mut headers));
    headers.0
}

struct Headers<'a>(&'a [(String, String)]);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_str())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }
}

#[derive(Default)]
struct Outgoing(Vec<(String, String)>);

impl Injector for Outgoing {
    fn set(&mut self, key: &str, value: String) {
        if !value.is_empty() {
            self.0.push((key.to_owned(), value));
        }
    }
}

/// Blocking HTTP for the exporter's own thread.
#[derive(Debug)]
struct OtlpClient(ureq::Agent);

#[async_trait::async_trait]
impl HttpClient for OtlpClient {
    async fn send_bytes(
        &self,
        request: ureq::http::Request<Bytes>,
    ) -> Result<ureq::http::Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let response = self
            .0
            .run(ureq::http::Request::from_parts(head, body.to_vec()))?;
        let (head, mut body) = response.into_parts();
        let body = Bytes::from(body.read_to_vec()?);
        Ok(ureq::http::Response::from_parts(head, body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    /// The `traceparent` that a dependency would receive while `/` is being served.
    fn passed_on() -> String {
        let incoming = format!("00-{TRACE}-b7ad6b7169203331-01");
        let request = Request::get("/", &[("traceparent", &incoming)]);
        let mut outgoing = Vec::new();
        serve(&request, "/", || {
            let asked: Result<(), String> = call("GET".into(), Vec::new(), || {
                outgoing = outgoing_headers();
                Ok(())
            });
            asked.map_or_else(
                |error| Response::error(502, error),
                |()| Response::new(200, json!({})),
            )
        });
        let found = outgoing.into_iter().find(|(name, _)| name == "traceparent");
        found.map(|(_, value)| value).unwrap_or_default()
    }

    #[test]
    fn a_trace_goes_on_with_and_without_an_exporter() {
        global::set_text_map_propagator(TraceContextPropagator::new());
        assert_eq!(passed_on(), format!("00-{TRACE}-b7ad6b7169203331-01"));

        global::set_tracer_provider(SdkTracerProvider::default());
        let continued = passed_on();
        assert!(continued.starts_with(&format!("00-{TRACE}-")) && continued.ends_with("-01"));
        assert!(
            !continued.contains("b7ad6b7169203331"),
            "the api's own span is the parent"
        );
    }
}
