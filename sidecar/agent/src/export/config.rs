//! What the `OTEL_*` variables say, read from a lookup so that tests set none.

mod limits;

use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;

pub use limits::{BatchConfig, Limits};

use super::outbox::OutboxConfig;
use super::resource::{Lookup, Resource};

/// A variable that Stethos cannot follow: the exporter is not started with half a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("environment variable {variable}: {value:?} {reason}")]
pub struct ConfigError {
    pub variable: String,
    pub value: String,
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Grpc,
    HttpProtobuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Logs,
    Traces,
    Metrics,
}

impl Signal {
    fn variable_part(self) -> &'static str {
        match self {
            Signal::Logs => "LOGS",
            Signal::Traces => "TRACES",
            Signal::Metrics => "METRICS",
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Signal::Logs => "logs",
            Signal::Traces => "traces",
            Signal::Metrics => "metrics",
        }
    }
}

/// PEM files for TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Trusted instead of the machine's roots.
    pub certificate: Option<PathBuf>,
    pub client_certificate: Option<PathBuf>,
    pub client_key: Option<PathBuf>,
}

/// Where and how one signal is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub protocol: Protocol,
    /// Full URL; for HTTP with the signal's path.
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub gzip: bool,
    /// For one attempt.
    pub timeout: Duration,
    pub tls: TlsFiles,
}

/// The exporter's settings: Stethos's own defaults, and what the environment says over them.
#[derive(Clone, Debug)]
pub struct ExportConfig {
    /// `None`: this signal is not exported.
    pub logs: Option<Endpoint>,
    pub traces: Option<Endpoint>,
    pub metrics: Option<Endpoint>,
    pub log_batch: BatchConfig,
    pub span_batch: BatchConfig,
    pub metric_batch: BatchConfig,
    pub limits: Limits,
    pub metric_interval: Duration,
    /// `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE`.
    pub temporality: opentelemetry_sdk::metrics::Temporality,
    /// Request spans a minute and incident; what is over is counted on the incident's span.
    pub spans_per_minute: u32,
    /// How long a batch that waits in memory is tried again before it is given up.
    pub retry_for: Duration,
    /// Where logs and spans wait for the collector, a folder below this for each; `None`: in memory,
    /// for [`ExportConfig::retry_for`].
    pub outbox: Option<OutboxConfig>,
    pub own_resource: Resource,
    /// Values that were ignored, one line each, for the log.
    pub warnings: Vec<String>,
}

impl ExportConfig {
    /// Reads the process's environment.
    pub fn from_environment() -> Result<Self, ConfigError> {
        Self::read(&|name| std::env::var(name).ok())
    }

    /// Reads the variables of the OpenTelemetry specification. An unknown enumeration value is
    /// ignored with a warning, as the specification asks; an address or number that cannot be
    /// read is an error.
    pub fn read(lookup: Lookup<'_>) -> Result<Self, ConfigError> {
        let mut env = Environment {
            lookup,
            warnings: Vec::new(),
        };
        let disabled = env.flag("OTEL_SDK_DISABLED");
        let mut endpoint = |signal| match disabled {
            true => Ok(None),
            false => env.endpoint(signal),
        };
        let (logs, traces, metrics) = (
            endpoint(Signal::Logs)?,
            endpoint(Signal::Traces)?,
            endpoint(Signal::Metrics)?,
        );
        let interval = env.milliseconds("OTEL_METRIC_EXPORT_INTERVAL")?;
        // Old values are not worth more attempts than the specification gives them.
        let metric_timeout = env.milliseconds("OTEL_METRIC_EXPORT_TIMEOUT")?;
        let metric_timeout = metric_timeout.unwrap_or(Duration::from_secs(30));
        Ok(ExportConfig {
            logs,
            traces,
            metrics,
            log_batch: env.batch("BLRP", BatchConfig::DIAGNOSES)?,
            span_batch: env.batch("BSP", BatchConfig::DIAGNOSES)?,
            metric_batch: BatchConfig {
                export_timeout: Some(metric_timeout),
                ..BatchConfig::DIAGNOSES
            },
            limits: env.limits()?,
            metric_interval: interval.unwrap_or(Duration::from_secs(60)),
            temporality: env.temporality(),
            spans_per_minute: 30,
            retry_for: Duration::from_secs(300),
            outbox: None,
            own_resource: Resource::of_stethos(lookup),
            warnings: env.warnings,
        })
    }
}

/// The variables, and what is to be said about them.
pub(super) struct Environment<'a> {
    lookup: Lookup<'a>,
    warnings: Vec<String>,
}

impl Environment<'_> {
    /// An empty value counts as unset.
    fn text(&self, name: &str) -> Option<String> {
        (self.lookup)(name)
            .map(|v| v.trim().to_owned())
            .filter(|v| !v.is_empty())
    }

    fn flag(&mut self, name: &str) -> bool {
        let Some(value) = self.text(name) else {
            return false;
        };
        if !value.eq_ignore_ascii_case("true") && !value.eq_ignore_ascii_case("false") {
            self.ignored(name, &value, "is neither true nor false");
        }
        value.eq_ignore_ascii_case("true")
    }

    fn number(&self, name: &str) -> Result<Option<u64>, ConfigError> {
        let parse = |value: String| match value.parse() {
            Ok(number) => Ok(number),
            Err(_) => Err(refused(
                name,
                &value,
                "is not a whole number of zero or more",
            )),
        };
        self.text(name).map(parse).transpose()
    }

    fn milliseconds(&self, name: &str) -> Result<Option<Duration>, ConfigError> {
        Ok(self.number(name)?.map(Duration::from_millis))
    }

    fn ignored(&mut self, name: &str, value: &str, reason: &str) {
        self.warnings
            .push(format!("{name}: {value:?} {reason}; ignored"));
    }

    /// The signal's own variable over the general one, with the name that was used.
    fn exporter(&self, signal: Signal, what: &str) -> Option<(String, String)> {
        let own = format!("OTEL_EXPORTER_OTLP_{}_{what}", signal.variable_part());
        let general = format!("OTEL_EXPORTER_OTLP_{what}");
        [own, general]
            .into_iter()
            .find_map(|name| self.text(&name).map(|value| (name, value)))
    }

    fn endpoint(&mut self, signal: Signal) -> Result<Option<Endpoint>, ConfigError> {
        let choice = format!("OTEL_{}_EXPORTER", signal.variable_part());
        match self.text(&choice) {
            Some(none) if none == "none" => return Ok(None),
            Some(other) if !other.split(',').any(|name| name.trim() == "otlp") => {
                self.ignored(&choice, &other, "is not supported (otlp, none)");
            }
            _ => {}
        }
        let protocol = self.protocol(signal);
        let (url, variable) = self.url(signal, protocol);
        let shown = || variable.as_deref().unwrap_or("OTEL_EXPORTER_OTLP_ENDPOINT");
        match url.parse::<tonic::transport::Uri>() {
            Ok(uri)
                if uri.host().is_some() && matches!(uri.scheme_str(), Some("http" | "https")) => {}
            _ => return Err(refused(shown(), &url, "is not an http or https URL")),
        }
        let timeout = match self.exporter(signal, "TIMEOUT") {
            Some((name, _)) => self.milliseconds(&name)?,
            None => None,
        };
        let file = |what| {
            self.exporter(signal, what)
                .map(|(_, path)| PathBuf::from(path))
        };
        let tls = TlsFiles {
            certificate: file("CERTIFICATE"),
            client_certificate: file("CLIENT_CERTIFICATE"),
            client_key: file("CLIENT_KEY"),
        };
        Ok(Some(Endpoint {
            protocol,
            url,
            headers: self.headers(signal)?,
            gzip: self.gzip(signal),
            timeout: timeout
                .filter(|t| !t.is_zero())
                .unwrap_or(Duration::from_secs(10)),
            tls,
        }))
    }

    fn protocol(&mut self, signal: Signal) -> Protocol {
        match self.exporter(signal, "PROTOCOL") {
            Some((_, value)) if value == "grpc" => Protocol::Grpc,
            Some((name, value)) if value != "http/protobuf" => {
                self.ignored(&name, &value, "is not supported (grpc, http/protobuf)");
                Protocol::HttpProtobuf
            }
            _ => Protocol::HttpProtobuf,
        }
    }

    /// The URL, and the variable that it came from.
    fn url(&self, signal: Signal, protocol: Protocol) -> (String, Option<String>) {
        let own = format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", signal.variable_part());
        let own = self.text(&own).map(|url| (url, Some(own)));
        let general = || {
            let name = "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned();
            self.text(&name).map(|url| (url, Some(name)))
        };
        if protocol == Protocol::Grpc {
            let set = own.or_else(general);
            let (url, name) = set.unwrap_or_else(|| ("http://localhost:4317".into(), None));
            // Only gRPC endpoints may come without a scheme.
            let insecure = self.exporter(signal, "INSECURE");
            let scheme = match insecure.is_some_and(|(_, v)| v.eq_ignore_ascii_case("true")) {
                true => "http",
                false => "https",
            };
            let url = if url.contains("://") {
                url
            } else {
                format!("{scheme}://{url}")
            };
            return (url, name);
        }
        own.unwrap_or_else(|| {
            let (base, name) = general().unwrap_or_else(|| ("http://localhost:4318".into(), None));
            (
                format!("{}/v1/{}", base.trim_end_matches('/'), signal.as_str()),
                name,
            )
        })
    }

    /// `key=value,…`, values percent-encoded.
    fn headers(&self, signal: Signal) -> Result<Vec<(String, String)>, ConfigError> {
        let Some((name, list)) = self.exporter(signal, "HEADERS") else {
            return Ok(Vec::new());
        };
        let bad = |why: &str| refused(&name, "(not shown)", why);
        let pairs = list
            .split(',')
            .map(str::trim)
            .filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| {
                let (key, value) = pair
                    .split_once('=')
                    .ok_or_else(|| bad("is not key=value,…"))?;
                let value = percent_decode_str(value.trim()).decode_utf8();
                let value = value.map_err(|_| bad("has a value that is not UTF-8"))?;
                Ok((key.trim().to_ascii_lowercase(), value.into_owned()))
            })
            .collect()
    }

    fn gzip(&mut self, signal: Signal) -> bool {
        match self.exporter(signal, "COMPRESSION") {
            Some((_, value)) if value.eq_ignore_ascii_case("gzip") => true,
            Some((name, value)) if !value.eq_ignore_ascii_case("none") => {
                self.ignored(&name, &value, "is not supported (gzip, none)");
                false
            }
            _ => false,
        }
    }

    fn temporality(&mut self) -> opentelemetry_sdk::metrics::Temporality {
        let name = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
        let Some(value) = self.text(name) else {
            return Default::default();
        };
        value.parse().unwrap_or_else(|()| {
            self.ignored(name, &value, "is not cumulative, delta or lowmemory");
            Default::default()
        })
    }
}

fn refused(variable: &str, value: &str, reason: &str) -> ConfigError {
    ConfigError {
        variable: variable.into(),
        value: value.into(),
        reason: reason.into(),
    }
}

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
