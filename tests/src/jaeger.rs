//! A real Jaeger on loopback, its traces in memory, and what its query API says of them.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::shop::free_port;

/// What a user of Jaeger is given, too.
const CONFIG: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../examples/jaeger/jaeger.yaml"
);
/// The ports of the configuration, each with the variable that moves it.
const PORTS: [&str; 4] = [
    "JAEGER_PORT",
    "JAEGER_QUERY_GRPC_PORT",
    "JAEGER_OTLP_GRPC_PORT",
    "JAEGER_OTLP_HTTP_PORT",
];

/// In bytes.
const LONGEST_ANSWER: u64 = 1 << 28;

/// A running Jaeger; it ends when dropped.
pub struct Jaeger {
    child: Child,
    ports: [u16; PORTS.len()],
    agent: ureq::Agent,
    folder: tempfile::TempDir,
}

/// An answer of the query API (`/api/…`); an empty list may be told as no data.
#[derive(Deserialize)]
struct Answer<T> {
    data: Option<T>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Trace {
    #[serde(rename = "traceID")]
    pub id: String,
    pub spans: Vec<Span>,
    processes: serde_json::Map<String, Value>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Span {
    #[serde(rename = "spanID")]
    pub id: String,
    #[serde(rename = "operationName")]
    pub name: String,
    pub references: Vec<Reference>,
    pub tags: Vec<Tag>,
    /// What Jaeger shows as wrong with it.
    pub warnings: Option<Vec<String>>,
    #[serde(rename = "processID")]
    process: String,
}

/// What a span hangs on (`CHILD_OF`) or points at (`FOLLOWS_FROM`: a link).
#[derive(Clone, Debug, Deserialize)]
pub struct Reference {
    #[serde(rename = "refType")]
    pub kind: String,
    #[serde(rename = "traceID")]
    pub trace: String,
    #[serde(rename = "spanID")]
    pub span: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Tag {
    pub key: String,
    pub value: Value,
}

impl Trace {
    /// `service.name` of the process that Jaeger shows a span under.
    pub fn service(&self, span: &Span) -> Option<&str> {
        self.processes.get(&span.process)?["serviceName"].as_str()
    }

    pub fn span(&self, id: &str) -> Option<&Span> {
        self.spans.iter().find(|span| span.id == id)
    }
}

impl Span {
    pub fn tag(&self, key: &str) -> Option<&Value> {
        let tag = self.tags.iter().find(|tag| tag.key == key);
        tag.map(|tag| &tag.value)
    }

    /// A tag that is text.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.tag(key)?.as_str()
    }

    /// The span that it is a child of.
    pub fn parent(&self) -> Option<&str> {
        let mut references = self.references.iter();
        let parent = references.find(|reference| reference.kind == "CHILD_OF");
        parent.map(|reference| reference.span.as_str())
    }

    /// Trace and span of each of its links.
    pub fn links(&self) -> Vec<(&str, &str)> {
        let links = self.references.iter();
        links
            .filter(|reference| reference.kind == "FOLLOWS_FROM")
            .map(|link| (link.trace.as_str(), link.span.as_str()))
            .collect()
    }
}

impl Jaeger {
    /// Starts the Jaeger that `STETHOS_JAEGER` names; none when it names none.
    ///
    /// # Panics
    /// When it does not answer within half a minute.
    pub fn start() -> Option<io::Result<Self>> {
        let program = std::env::var_os("STETHOS_JAEGER")?;
        Some(Self::start_program(Command::new(program)))
    }

    fn start_program(mut command: Command) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let ports = free_ports()?;
        for (name, port) in PORTS.iter().zip(ports) {
            command.env(name, port.to_string());
        }
        let child = command
            .args(["--config", CONFIG])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(log(&folder))?)
            .spawn()?;
        let agent = ureq::Agent::config_builder()
            .proxy(None)
            .timeout_global(Some(Duration::from_secs(10)))
            .build()
            .new_agent();
        let mut jaeger = Self {
            child,
            ports,
            agent,
            folder,
        };
        let until = Instant::now() + Duration::from_secs(30);
        while jaeger.ask::<Vec<String>>("services", &[]).is_err() {
            let ended = jaeger.child.try_wait()?;
            let late = Instant::now() >= until;
            assert!(
                ended.is_none() && !late,
                "Jaeger does not answer (ended: {ended:?}): {}",
                jaeger.log()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(jaeger)
    }

    /// Where it takes OTLP over gRPC.
    pub fn otlp_grpc(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[2])
    }

    /// Where it takes OTLP over HTTP, without a path.
    pub fn otlp_http(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[3])
    }

    /// The services that it knows.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn services(&self) -> io::Result<Vec<String>> {
        self.ask("services", &[])
    }

    /// The trace of this id; none where it has none.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn trace(&self, id: &str) -> io::Result<Option<Trace>> {
        match self.ask::<Vec<Trace>>(&format!("traces/{id}"), &[]) {
            Ok(traces) => Ok(traces.into_iter().next()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Traces with a span of `service` that has this name and all of `tags`, as its search page asks.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn search(
        &self,
        service: &str,
        operation: &str,
        tags: &[(&str, &str)],
    ) -> io::Result<Vec<Trace>> {
        let tags = tags.iter().map(|(key, value)| (*key, Value::from(*value)));
        let tags = tags.map(|(key, value)| (key.to_owned(), value));
        let tags = Value::Object(tags.collect()).to_string();
        let question = [
            ("service", service),
            ("operation", operation),
            ("tags", tags.as_str()),
            ("limit", "1000"),
        ];
        self.ask("traces", &question)
    }

    /// Waits until `wanted` finds something.
    ///
    /// # Panics
    /// When it does not within `limit`, or Jaeger does not answer.
    pub fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Self) -> io::Result<Option<T>>,
    ) -> T {
        let until = Instant::now() + limit;
        loop {
            let found = wanted(self);
            assert!(found.is_ok(), "{:?}: {}", found.err(), self.log());
            if let Ok(Some(found)) = found {
                return found;
            }
            assert!(
                Instant::now() < until,
                "Jaeger has no {what} within {limit:?}, but {:#?}",
                self.fault_spans()
            );
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// How many fault spans of each kind it has: service, name, whose span the parent is, and why.
    fn fault_spans(&self) -> io::Result<BTreeMap<[String; 4], usize>> {
        let mut count = BTreeMap::new();
        for service in self.services()? {
            for trace in self.search(&service, "", &[("stethos.fault", "true")])? {
                let spans = trace.spans.iter();
                for span in spans.filter(|span| span.tag("stethos.fault").is_some()) {
                    let text = |key| span.text(key).unwrap_or_default().to_owned();
                    let (parent, why) =
                        (text("stethos.trace.parent"), text("stethos.trace.reason"));
                    let kind = [service.clone(), span.name.clone(), parent, why];
                    *count.entry(kind).or_default() += 1;
                }
            }
        }
        Ok(count)
    }

    fn ask<T: DeserializeOwned + Default>(
        &self,
        path: &str,
        question: &[(&str, &str)],
    ) -> io::Result<T> {
        let url = format!("http://127.0.0.1:{}/api/{path}", self.ports[0]);
        let request = self.agent.get(url).query_pairs(question.iter().copied());
        let answer = request.call().map_err(|error| match error {
            ureq::Error::StatusCode(404) => io::ErrorKind::NotFound.into(),
            error => io::Error::other(error),
        })?;
        let answer = answer.into_body().into_with_config().limit(LONGEST_ANSWER);
        let answer: Answer<T> = answer.read_json().map_err(io::Error::other)?;
        Ok(answer.data.unwrap_or_default())
    }

    fn log(&self) -> String {
        fs::read_to_string(log(&self.folder)).unwrap_or_default()
    }
}

impl Drop for Jaeger {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("jaeger.log")
}

/// All different, all free a moment ago.
fn free_ports() -> io::Result<[u16; PORTS.len()]> {
    let mut ports = [0; PORTS.len()];
    for at in 0..ports.len() {
        while ports[at] == 0 || ports[..at].contains(&ports[at]) {
            ports[at] = free_port()?;
        }
    }
    Ok(ports)
}
