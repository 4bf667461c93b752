//! A real OTLP collector (Rotel) on loopback, and what it says it received.

use std::{
    fs::{self, File},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::shop::free_port;

/// A running collector; it prints all that it receives.
pub struct Collector {
    child: Child,
    http: u16,
    output: PathBuf,
    folder: PathBuf,
}

/// What was received so far.
#[derive(Debug, Default)]
pub struct Received {
    pub spans: Vec<Span>,
    pub logs: Vec<LogRecord>,
}

#[derive(Clone, Debug, Default)]
pub struct Span {
    pub service: String,
    pub name: String,
    pub trace: String,
    pub id: String,
    pub parent: Option<String>,
    pub attributes: Vec<(String, String)>,
}

#[derive(Clone, Debug, Default)]
pub struct LogRecord {
    pub service: String,
    pub event: String,
    pub severity: String,
    pub trace: Option<String>,
    pub attributes: Vec<(String, String)>,
}

impl Span {
    pub fn attribute(&self, name: &str) -> Option<&str> {
        attribute(&self.attributes, name)
    }
}

impl LogRecord {
    pub fn attribute(&self, name: &str) -> Option<&str> {
        attribute(&self.attributes, name)
    }
}

fn attribute<'a>(attributes: &'a [(String, String)], name: &str) -> Option<&'a str> {
    attributes
        .iter()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.as_str())
}

impl Collector {
    /// Starts the collector that `STETHOS_ROTEL` names; none when it names none.
    ///
    /// # Panics
    /// When the collector does not start.
    pub fn start() -> Option<Self> {
        Self::start_at(free_port().ok()?)
    }

    /// The same, with this port for OTLP over HTTP.
    ///
    /// # Panics
    /// When the collector does not start.
    pub fn start_at(http: u16) -> Option<Self> {
        let program = std::env::var_os("STETHOS_ROTEL")?;
        let grpc = free_port().ok()?;
        let folder = std::env::temp_dir().join(format!(
            "stethos-test-collector-{}-{http}",
            std::process::id()
        ));
        fs::create_dir_all(&folder).ok()?;
        let output = folder.join("received.log");
        let child = Command::new(program)
            .arg("start")
            .args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{grpc}")])
            .args(["--otlp-http-endpoint", &format!("127.0.0.1:{http}")])
            .args(["--debug-log", "traces", "--debug-log", "logs"])
            .args(["--debug-log", "metrics"])
            .args(["--debug-log-verbosity", "detailed"])
            .args(["--exporter", "blackhole", "--batch-timeout", "100ms"])
            .stdin(Stdio::null())
            .stdout(File::create(&output).ok()?)
            .stderr(Stdio::null())
            .spawn();
        let collector = Self {
            child: child.ok()?,
            http,
            output,
            folder,
        };
        let until = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", http)).is_err() {
            assert!(Instant::now() < until, "the collector does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(collector)
    }

    pub fn http_port(&self) -> u16 {
        self.http
    }

    pub fn http_endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    pub fn received(&self) -> Received {
        parse(&self.text())
    }

    /// What it printed about all that it received.
    pub fn text(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// Waits until `wanted` finds something in what was received.
    ///
    /// # Panics
    /// When it does not within `limit`.
    pub fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Received) -> Option<T>,
    ) -> T {
        let until = Instant::now() + limit;
        loop {
            let received = self.received();
            if let Some(found) = wanted(&received) {
                return found;
            }
            let (spans, logs) = (received.spans.len(), received.logs.len());
            assert!(
                Instant::now() < until,
                "the collector received no {what} within {limit:?}, but {spans} spans, {logs} logs"
            );
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    pub fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.end();
    }
}

/// Where in the collector's text the next attribute belongs.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Resource,
    Span,
    Log,
    Elsewhere,
}

fn parse(text: &str) -> Received {
    let mut received = Received::default();
    let mut place = Place::Elsewhere;
    let mut service = String::new();
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with("ResourceSpans #") || line.starts_with("ResourceLog #") {
            place = Place::Resource;
            service.clear();
        } else if line.starts_with("Span #") {
            place = Place::Span;
            received.spans.push(Span {
                service: service.clone(),
                ..Span::default()
            });
        } else if line.starts_with("LogRecord #") {
            place = Place::Log;
            received.logs.push(LogRecord {
                service: service.clone(),
                ..LogRecord::default()
            });
        } else if ["Links:", "Events:", "ResourceMetrics #"]
            .iter()
            .any(|begin| line.starts_with(begin))
        {
            place = Place::Elsewhere;
        } else if let Some(pair) = line.strip_prefix("-> ") {
            let Some((key, value)) = pair.split_once(": ") else {
                continue;
            };
            let (key, value) = (key.to_owned(), bare(value).to_owned());
            match place {
                Place::Resource if key == "service.name" => service = value,
                Place::Span => {
                    if let Some(span) = received.spans.last_mut() {
                        span.attributes.push((key, value));
                    }
                }
                Place::Log => {
                    if let Some(record) = received.logs.last_mut() {
                        record.attributes.push((key, value));
                    }
                }
                _ => {}
            }
        } else if let Some((key, value)) = line.split_once(':') {
            field(&mut received, place, key.trim(), value.trim());
        }
    }
    received
}

fn field(received: &mut Received, place: Place, key: &str, value: &str) {
    let value = value.to_owned();
    match (place, received.spans.last_mut(), received.logs.last_mut()) {
        (Place::Span, Some(span), _) => match key {
            "Trace ID" => span.trace = value,
            "ID" => span.id = value,
            "Parent ID" => span.parent = (!value.is_empty()).then_some(value),
            "Name" => span.name = value,
            _ => {}
        },
        (Place::Log, _, Some(record)) => match key {
            "Trace ID" => record.trace = (!value.is_empty()).then_some(value),
            "SeverityText" => record.severity = value,
            "EventName" => record.event = value,
            _ => {}
        },
        _ => {}
    }
}

/// `Str(x)` → `x`, `Bool(true)` → `true`; lists stay as they are printed.
fn bare(value: &str) -> &str {
    for kind in ["Str(", "Bool(", "Int(", "Double("] {
        if let Some(inner) = value
            .strip_prefix(kind)
            .and_then(|rest| rest.strip_suffix(')'))
        {
            return inner;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_collectors_text_is_understood() {
        let text = "ResourceSpans #0\nResource attributes:\n     -> service.name: Str(api)\n\
            Span #0\n    Trace ID       : 4bf9\n    Parent ID      : 00f0\n    ID             : 00f1\n\
            \x20   Name           : stethos.fault dependency.refused\nAttributes:\n\
            \x20    -> stethos.fault: Bool(true)\nLinks:\nSpanLink #0\n     -> Trace ID: 77\n\
            ResourceLog #0\nResource attributes:\n     -> service.name: Str(api)\nLogRecord #0\n\
            SeverityText: ERROR\nEventName: stethos.fault.diagnosis\nBody: Str(x)\nAttributes:\n\
            \x20    -> error.type: Str(disk.full)\n    Trace ID       : 4bf9\n    Span ID        : 1\n";
        let received = parse(text);
        let span = &received.spans[0];
        assert_eq!((span.service.as_str(), span.id.as_str()), ("api", "00f1"));
        assert_eq!(span.attribute("stethos.fault"), Some("true"));
        assert_eq!(span.attributes.len(), 1);
        let record = &received.logs[0];
        assert_eq!(record.trace.as_deref(), Some("4bf9"));
        assert_eq!(record.attribute("error.type"), Some("disk.full"));
    }
}
