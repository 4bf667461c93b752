//! A real OTLP collector, Rotel, on free loopback ports. It prints what it received on standard
//! output, as text; [`Received`] reads that.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// The collector's binary from `STETHOS_ROTEL`; otherwise says that `test` is skipped.
pub(crate) fn binary_or_skip(test: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("STETHOS_ROTEL") {
        return Some(path.into());
    }
    let line = format!("tool\t{test}\tSTETHOS_ROTEL is not set\n");
    eprint!("SKIPPED: {line}");
    if let Some(log) = std::env::var_os("STETHOS_SKIP_LOG") {
        let mut log = File::options().append(true).create(true).open(log).unwrap();
        log.write_all(line.as_bytes()).unwrap();
    }
    None
}

/// Two ports that were free a moment ago.
pub(crate) fn free_ports() -> (u16, u16) {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (one, two) = (bind(), bind());
    (
        one.local_addr().unwrap().port(),
        two.local_addr().unwrap().port(),
    )
}

/// A running collector; stopped when dropped.
pub(crate) struct Rotel {
    child: Child,
    output: PathBuf,
    _folder: tempfile::TempDir,
}

impl Rotel {
    pub(crate) fn start(binary: &PathBuf, (grpc, http): (u16, u16)) -> Rotel {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("received.txt");
        let file = File::create(&output).unwrap();
        let child = Command::new(binary)
            .arg("start")
            .args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{grpc}")])
            .args(["--otlp-http-endpoint", &format!("127.0.0.1:{http}")])
            .args([
                "--debug-log",
                "traces",
                "--debug-log",
                "logs",
                "--debug-log",
                "metrics",
            ])
            .args([
                "--debug-log-verbosity",
                "detailed",
                "--exporter",
                "blackhole",
            ])
            .stdin(Stdio::null())
            .stderr(file.try_clone().unwrap())
            .stdout(file)
            .spawn()
            .unwrap();
        let rotel = Rotel {
            child,
            output,
            _folder: folder,
        };
        let deadline = Instant::now() + PATIENCE;
        for port in [grpc, http] {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
                assert!(Instant::now() < deadline, "not listening: {}", rotel.text());
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        rotel
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.output).unwrap()).into_owned()
    }

    /// What was received, once it is as `expected`.
    pub(crate) async fn received(&self, expected: impl Fn(&Received) -> bool) -> Received {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let received = Received::parse(&self.text());
            if expected(&received) {
                return received;
            }
            assert!(Instant::now() < deadline, "received only:\n{}", self.text());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Rotel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A span or log record, with fields and attributes as they are printed (`Str(api)`).
#[derive(Clone, Debug, Default)]
pub(crate) struct Item {
    pub(crate) resource: BTreeMap<String, String>,
    pub(crate) fields: BTreeMap<String, String>,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) links: Vec<BTreeMap<String, String>>,
}

impl Item {
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    pub(crate) fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }

    pub(crate) fn service(&self) -> &str {
        self.resource.get("service.name").map_or("", String::as_str)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) spans: Vec<Item>,
    pub(crate) logs: Vec<Item>,
}

#[derive(PartialEq)]
enum Section {
    Other,
    Resource,
    Span,
    Log,
    Link,
}

impl Received {
    /// Reads the collector's detailed debug output.
    pub(crate) fn parse(text: &str) -> Received {
        let mut received = Received::default();
        let mut resource = BTreeMap::new();
        let mut section = Section::Other;
        let mut kind = Section::Other;
        for line in text.lines() {
            let begins = |what: &str| line.starts_with(what);
            if begins("ResourceSpans #") || begins("ResourceLog #") {
                (resource, section, kind) = (BTreeMap::new(), Section::Resource, Section::Other);
            } else if begins("ResourceMetric") {
                (section, kind) = (Section::Other, Section::Other);
            } else if begins("Span #") || begins("LogRecord #") {
                let item = Item {
                    resource: resource.clone(),
                    ..Item::default()
                };
                let span = begins("Span #");
                kind = if span { Section::Span } else { Section::Log };
                if span {
                    received.spans.push(item)
                } else {
                    received.logs.push(item)
                }
                section = Section::Span;
            } else if begins("SpanLink #") {
                section = Section::Link;
                if let Some(span) = received.spans.last_mut() {
                    span.links.push(BTreeMap::new());
                }
            } else if let Some(pair) = line.strip_prefix("     -> ") {
                let Some((key, value)) = pair.split_once(": ") else {
                    continue;
                };
                let (key, value) = (key.to_owned(), value.to_owned());
                if section == Section::Resource {
                    resource.insert(key, value);
                } else if let Some(item) = received.last(&kind) {
                    let to_link = section == Section::Link && !item.links.is_empty();
                    match item.links.last_mut() {
                        Some(link) if to_link => link.insert(key, value),
                        _ => item.attributes.insert(key, value),
                    };
                }
            } else if let (Some(item), Some((key, value))) =
                (received.last(&kind), line.split_once(':'))
            {
                item.fields
                    .insert(key.trim().to_owned(), value.trim().to_owned());
            }
        }
        received
    }

    fn last(&mut self, kind: &Section) -> Option<&mut Item> {
        match kind {
            Section::Span => self.spans.last_mut(),
            Section::Log => self.logs.last_mut(),
            _ => None,
        }
    }
}
