//! A collector that is away for a while, under load: `bench-outage MINUTES`. The shop is diagnosed again and
//! again meanwhile, and the sidecar killed half-way; afterwards one line of JSON says what arrived, what the
//! sidecar took, and what the shop's clients felt.
#![allow(clippy::print_stdout, reason = "what it measures is its output")]

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde_json::json;
use stethos_tests::{
    cgroup::Cgroup,
    collector::Collector,
    shop::{self, Shop},
    sidecar::Sidecar,
};

/// Between two faults, and how long one lasts.
const EVERY: Duration = Duration::from_secs(40);
const LASTS: Duration = Duration::from_secs(8);
/// Quiet time before and after the outage in which clients are watched, too.
const QUIET: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    let minutes = std::env::args().nth(1).and_then(|word| word.parse().ok());
    let outage = Duration::from_secs_f64(60.0 * minutes.unwrap_or(10.0));
    let folder = tempfile::tempdir()?;
    let state = folder.path().join("state");
    let outside = Cgroup::new("outside")?;
    let pod = Cgroup::new("outage")?;
    let collector = Collector::start().context("STETHOS_ROTEL is not set")?;
    let (port, endpoint) = (collector.http_port(), collector.http_endpoint());
    let mut shop = shop::shop(&pod, &outside, folder.path(), &endpoint)?;
    let sidecar = |number: u32| {
        let log = folder.path().join(format!("stethos-{number}.log"));
        Sidecar::start(&outside, &pod, &state, &log, |command| {
            command
                .env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)
                .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
        })
    };
    let mut first = sidecar(1)?;
    first.watching(3, Duration::from_secs(150));
    let clients = Clients::start(shop.api_address.clone());
    std::thread::sleep(QUIET);
    let before = clients.taken();

    drop(collector);
    let began = Instant::now();
    let mut told = Told::default();
    let mut faults = 0;
    let mut sidecars = vec![first];
    while began.elapsed() < outage {
        std::thread::sleep(
            EVERY
                .saturating_sub(LASTS)
                .min(outage.saturating_sub(began.elapsed())),
        );
        if sidecars.len() == 1 && began.elapsed() >= outage / 2 {
            sidecars[0].running.signal(libc::SIGKILL);
            let mut second = sidecar(2)?;
            second.watching(3, Duration::from_secs(150));
            sidecars.push(second);
        }
        // Not counted: what clients feel of the fault.
        clients.pause(true);
        break_redis(&mut shop, &pod, folder.path())?;
        clients.pause(false);
        faults += 1;
    }
    let during = clients.taken();
    let waits = bytes(&state.join("outbox"));
    let peaks: Vec<u64> = sidecars.iter().filter_map(peak).collect();

    let collector = Collector::start_at(port).context("no collector")?;
    let until = Instant::now() + Duration::from_secs(120);
    while bytes(&state.join("outbox")) > 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(500));
    }
    std::thread::sleep(Duration::from_secs(2));
    std::thread::sleep(QUIET);
    let after = clients.taken();
    for sidecar in &mut sidecars {
        sidecar.said().iter().for_each(|line| told.take(line));
    }
    let received = collector.received();
    let mut arrived: BTreeMap<(String, String), usize> = BTreeMap::new();
    for record in &received.logs {
        let key = |name| record.attribute(name).unwrap_or_default().to_owned();
        let key = (key("stethos.incident.id"), key("stethos.incident.state"));
        *arrived.entry(key).or_default() += 1;
    }
    let came = |key: &(String, String)| arrived.get(key).copied().unwrap_or(0);
    let missing = told.0.iter().filter(|(key, count)| came(key) < **count);
    let twice: usize = told
        .0
        .iter()
        .map(|(key, count)| came(key).saturating_sub(*count))
        .sum();
    let line = json!({
        "minutes": outage.as_secs_f64() / 60.0,
        "faults": faults,
        "told": told.0.values().sum::<usize>(),
        "missing": missing.count(),
        "twice": twice,
        "spans": received.spans.iter().filter(|span| span.name.starts_with("stethos.")).count(),
        "waiting_bytes": waits,
        "left_bytes": bytes(&state.join("outbox")),
        "resident_peak_kib": peaks,
        "latency_us": { "before": before.of(), "during": during.of(), "after": after.of() },
    });
    println!("{line}");
    Ok(())
}

/// Redis is gone for a while.
fn break_redis(shop: &mut Shop, pod: &Cgroup, folder: &Path) -> io::Result<()> {
    shop.redis.signal(libc::SIGKILL);
    std::thread::sleep(LASTS);
    shop.redis = shop::redis(pod, folder, shop.redis_port)?;
    // What waits for the connection to come back is over by then.
    std::thread::sleep(Duration::from_secs(3));
    Ok(())
}

/// What the sidecars said, by incident and state.
#[derive(Default)]
struct Told(BTreeMap<(String, String), usize>);

impl Told {
    fn take(&mut self, line: &serde_json::Value) {
        let text = |name: &str| line[name].as_str().map(str::to_owned);
        if let (Some(id), Some(state)) =
            (text("stethos.incident.id"), text("stethos.incident.state"))
        {
            *self.0.entry((id, state)).or_default() += 1;
        }
    }
}

/// Requests of a client, one after the other.
struct Clients {
    taken: Arc<Mutex<Vec<Duration>>>,
    paused: Arc<AtomicBool>,
}

/// How long requests took.
struct Latency(Vec<Duration>);

impl Clients {
    fn start(address: String) -> Self {
        let (taken, paused) = (
            Arc::<Mutex<Vec<Duration>>>::default(),
            Arc::<AtomicBool>::default(),
        );
        let (into, pauses) = (taken.clone(), paused.clone());
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_millis(20));
                let start = Instant::now();
                if ask(&address).is_ok() && !pauses.load(Relaxed) {
                    into.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(start.elapsed());
                }
            }
        });
        Self { taken, paused }
    }

    fn pause(&self, paused: bool) {
        self.paused.store(paused, Relaxed);
    }

    /// Those since this was last asked.
    fn taken(&self) -> Latency {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        Latency(std::mem::take(&mut *taken))
    }
}

/// One request of the shop.
fn ask(address: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET /products HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    match answer.starts_with(b"HTTP/1.1 200") {
        true => Ok(()),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

impl Latency {
    fn of(mut self) -> serde_json::Value {
        self.0.sort();
        let quantile = |share: f64| {
            let at = (share * self.0.len().saturating_sub(1) as f64) as usize;
            self.0.get(at).map(|taken| taken.as_micros() as u64)
        };
        json!({ "requests": self.0.len(), "p50": quantile(0.5), "p95": quantile(0.95) })
    }
}

/// Bytes of the files below a folder.
fn bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(about) if about.is_dir() => bytes(&entry.path()),
            Ok(about) if entry.path().extension().is_some_and(|end| end == "otlp") => about.len(),
            _ => 0,
        })
        .sum()
}

/// The highest resident memory of a sidecar that still runs, in KiB.
fn peak(sidecar: &Sidecar) -> Option<u64> {
    let path = format!("/proc/{}/status", sidecar.running.0.id());
    let status = fs::read_to_string(path).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
