//! Where and how a signal is sent: `OTEL_EXPORTER_OTLP_*` and `OTEL_*_EXPORTER`.

use std::path::PathBuf;
use std::time::Duration;

use opentelemetry_sdk::metrics::Temporality;
use percent_encoding::percent_decode_str;

use super::{ConfigError, Endpoint, Environment, Protocol, Signal, TlsFiles, refused};

impl Environment<'_> {
    /// Value and name of the signal's own variable, else of the general one.
    fn exporter(&self, signal: Option<Signal>, what: &str) -> Option<(String, String)> {
        let own = signal.map(|s| format!("OTEL_EXPORTER_OTLP_{}_{what}", s.variable_part()));
        let general = format!("OTEL_EXPORTER_OTLP_{what}");
        let names = own.into_iter().chain([general]);
        let mut set = names.filter_map(|name| Some((self.text(&name)?, name)));
        set.next()
    }

    /// `None` where the signal is not exported.
    pub(super) fn endpoint(&mut self, signal: Signal) -> Result<Option<Endpoint>, ConfigError> {
        if self.is_off(signal) {
            return Ok(None);
        }
        let protocol = self.protocol(signal);
        let (url, variable) = self.url(signal, protocol);
        match url.parse::<tonic::transport::Uri>() {
            Ok(uri)
                if uri.host().is_some() && matches!(uri.scheme_str(), Some("http" | "https")) => {}
            _ => return Err(refused(&variable, &url, "is not an http or https URL")),
        }
        let timeout = self.exporter(Some(signal), "TIMEOUT");
        let timeout = timeout.and_then(|(_, name)| self.timeout(&name));
        Ok(Some(Endpoint {
            protocol,
            url,
            headers: self.headers(signal)?,
            gzip: self.gzip(signal),
            timeout: timeout.unwrap_or(Duration::from_secs(10)),
            tls: self.tls(Some(signal))?,
        }))
    }

    fn is_off(&mut self, signal: Signal) -> bool {
        let variable = format!("OTEL_{}_EXPORTER", signal.variable_part());
        let names = self.names(&variable);
        let (mut none, mut otlp) = (false, false);
        for name in &names {
            match name.as_str() {
                "none" => none = true,
                "otlp" => otlp = true,
                other => self.ignored(&variable, other, "is not supported (otlp, none)"),
            }
        }
        none && !otlp
    }

    fn protocol(&mut self, signal: Signal) -> Protocol {
        let Some((value, name)) = self.exporter(Some(signal), "PROTOCOL") else {
            return Protocol::HttpProtobuf;
        };
        match value.to_ascii_lowercase().as_str() {
            "grpc" => return Protocol::Grpc,
            "http/protobuf" => {}
            _ => self.ignored(&name, &value, "is not supported (grpc, http/protobuf)"),
        }
        Protocol::HttpProtobuf
    }

    /// The URL, and the variable that is to blame for it.
    fn url(&mut self, signal: Signal, protocol: Protocol) -> (String, String) {
        const GENERAL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
        let set = self.exporter(Some(signal), "ENDPOINT");
        let or_default = |url: &str| set.unwrap_or_else(|| (url.to_owned(), GENERAL.to_owned()));
        match protocol {
            Protocol::HttpProtobuf => match or_default("http://localhost:4318") {
                (base, name) if name == GENERAL => (below(&base, signal), name),
                own => own,
            },
            Protocol::Grpc => {
                let (url, name) = or_default("http://localhost:4317");
                let insecure = self.exporter(Some(signal), "INSECURE");
                let insecure = insecure.is_some_and(|(_, name)| self.flag(&name));
                // Only gRPC endpoints may come without a scheme.
                let url = match insecure {
                    _ if url.contains("://") => url,
                    true => format!("http://{url}"),
                    false => format!("https://{url}"),
                };
                (url, name)
            }
        }
    }

    /// `key=value,…`, values percent-encoded.
    fn headers(&self, signal: Signal) -> Result<Vec<(String, String)>, ConfigError> {
        let Some((list, name)) = self.exporter(Some(signal), "HEADERS") else {
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
        match self.exporter(Some(signal), "COMPRESSION") {
            Some((value, _)) if value.eq_ignore_ascii_case("gzip") => true,
            Some((value, name)) if !value.eq_ignore_ascii_case("none") => {
                self.ignored(&name, &value, "is not supported (gzip, none)");
                false
            }
            _ => false,
        }
    }

    pub(super) fn temporality(&mut self) -> Temporality {
        let name = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
        let Some(value) = self.text(name) else {
            return Temporality::default();
        };
        value.parse().unwrap_or_else(|()| {
            self.ignored(name, &value, "is not cumulative, delta or lowmemory");
            Temporality::default()
        })
    }

    pub(super) fn tls(&self, signal: Option<Signal>) -> Result<TlsFiles, ConfigError> {
        let file = |what| self.exporter(signal, what);
        let (certificate, key) = (file("CLIENT_CERTIFICATE"), file("CLIENT_KEY"));
        match (&certificate, &key) {
            (Some((path, name)), None) => Err(refused(name, path, "has no CLIENT_KEY")),
            (None, Some((path, name))) => Err(refused(name, path, "has no CLIENT_CERTIFICATE")),
            _ => {
                let path = |set: Option<(String, String)>| set.map(|(path, _)| PathBuf::from(path));
                Ok(TlsFiles {
                    certificate: path(file("CERTIFICATE")),
                    client_certificate: path(certificate),
                    client_key: path(key),
                })
            }
        }
    }
}

/// The signal's path below a general endpoint; a query stays behind it.
fn below(base: &str, signal: Signal) -> String {
    let (base, query) = base.split_at(base.find(['?', '#']).unwrap_or(base.len()));
    let base = base.strip_suffix('/').unwrap_or(base);
    format!("{base}/v1/{}{query}", signal.as_str())
}
