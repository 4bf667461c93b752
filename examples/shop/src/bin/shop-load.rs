//! The shop's customers: an open-loop load with a mix of routes. `shop-load --help`.
//!
//! Arrivals are a Poisson process that does not wait for answers: latency counts from the moment
//! a request was due, so a slow shop cannot hide behind a patient customer.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use rand::RngExt;
use rand::distr::Distribution;
use rand::distr::weighted::WeightedIndex;
use serde_json::json;
use stethos_shop::catalog::ITEMS;
use ureq::SendBody;

/// Longer than the api waits for what it depends on.
const TIMEOUT: Duration = Duration::from_secs(12);
/// A request this late is not sent any more: its customer has left.
const PATIENCE: Duration = Duration::from_secs(1);

/// Sends requests to a shop-api on this machine, each with a fresh sampled `traceparent`, and
/// prints one JSON line a second.
#[derive(Parser)]
struct Options {
    /// The api; loopback only.
    #[arg(long)]
    target: SocketAddr,
    /// Requests per second, on average.
    #[arg(long, default_value_t = 40.0)]
    rate: f64,
    /// Customers, each with a connection of its own.
    #[arg(long, default_value_t = 6)]
    connections: u32,
    /// Share of requests on a connection of their own.
    #[arg(long, default_value_t = 0.1)]
    new_connections: f64,
    /// Stops after this long.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

enum Outcome {
    /// Status below 500, after so long.
    Ok(Duration),
    /// Status of 500 and above, or no answer.
    Failed(Duration),
    /// Not sent: due too long ago.
    Late,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    ensure!(
        options.target.ip().is_loopback(),
        "{} is not a loopback address",
        options.target
    );
    ensure!(
        options.rate > 0.0 && options.connections > 0,
        "rate and connections are above zero"
    );
    let end = Instant::now() + Duration::from_secs(options.seconds);
    let (outcomes, receiver) = mpsc::channel();
    for _ in 0..options.connections {
        let mut customer = Customer::new(&options)?;
        let outcomes = outcomes.clone();
        std::thread::Builder::new()
            .name("customer".into())
            .spawn(move || customer.shop_until(end, &outcomes))?;
    }
    drop(outcomes);
    report(&receiver)
}

/// Prints a line a second until all customers have left.
fn report(outcomes: &Receiver<Outcome>) -> anyhow::Result<()> {
    let start = Instant::now();
    for second in 1.. {
        let mut summary = Summary::default();
        let ended = summary.collect_until(start + Duration::from_secs(second), outcomes);
        writeln!(std::io::stdout(), "{}", summary.line(second)).context("standard output")?;
        if ended {
            break;
        }
    }
    Ok(())
}

#[derive(Default)]
struct Summary {
    latencies: Vec<Duration>,
    failed: u64,
    late: u64,
}

impl Summary {
    /// Says whether no more outcomes can come.
    fn collect_until(&mut self, end: Instant, outcomes: &Receiver<Outcome>) -> bool {
        loop {
            match outcomes.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(Outcome::Ok(latency)) => self.latencies.push(latency),
                Ok(Outcome::Failed(latency)) => {
                    self.failed += 1;
                    self.latencies.push(latency);
                }
                Ok(Outcome::Late) => self.late += 1,
                Err(RecvTimeoutError::Timeout) => return false,
                Err(RecvTimeoutError::Disconnected) => return true,
            }
        }
    }

    fn line(&mut self, second: u64) -> serde_json::Value {
        self.latencies.sort_unstable();
        json!({
            "second": second,
            "ok": self.latencies.len() as u64 - self.failed,
            "failed": self.failed,
            "late": self.late,
            "p50_ms": self.quantile_ms(0.5),
            "p99_ms": self.quantile_ms(0.99),
        })
    }

    fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        let last = self.latencies.len().checked_sub(1)?;
        let rank = (last as f64 * quantile).round() as usize;
        Some((self.latencies[rank].as_secs_f64() * 1e5).round() / 100.0)
    }
}

struct Customer {
    agent: ureq::Agent,
    url: String,
    rate: f64,
    new_connections: f64,
    /// Product ids less one, by popularity: Zipf with exponent 1.
    popularity: WeightedIndex<f64>,
}

impl Customer {
    fn new(options: &Options) -> anyhow::Result<Self> {
        let agent = ureq::Agent::config_builder()
            .timeout_per_read(Some(TIMEOUT))
            .timeout_per_write(Some(TIMEOUT))
            .http_status_as_error(false)
            .build()
            .new_agent();
        Ok(Self {
            agent,
            url: format!("http://{}", options.target),
            rate: options.rate / f64::from(options.connections),
            new_connections: options.new_connections,
            popularity: WeightedIndex::new((1..=ITEMS).map(|rank| 1.0 / f64::from(rank)))?,
        })
    }

    fn shop_until(&mut self, end: Instant, outcomes: &Sender<Outcome>) {
        let mut due = Instant::now();
        loop {
            let gap = -(1.0 - rand::random::<f64>()).ln() / self.rate;
            due += Duration::from_secs_f64(gap);
            if due > end {
                return;
            }
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let outcome = if due.elapsed() > PATIENCE {
                Outcome::Late
            } else {
                match self.request() {
                    Ok(status) if status < 500 => Outcome::Ok(due.elapsed()),
                    _ => Outcome::Failed(due.elapsed()),
                }
            };
            if outcomes.send(outcome).is_err() {
                return;
            }
        }
    }

    /// The status of one answered request.
    fn request(&self) -> anyhow::Result<u16> {
        let mut random = rand::rng();
        let product = self.popularity.sample(&mut random) + 1;
        let (method, path, body) = match random.random_range(0..100) {
            0..20 => ("POST", "/orders".to_owned(), order(product, &mut random)?),
            20..35 => ("GET", "/products".to_owned(), SendBody::none()),
            35..37 => (
                "GET",
                format!("/products/{}", 1000 + product),
                SendBody::none(),
            ),
            _ => ("GET", format!("/products/{product}"), SendBody::none()),
        };
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("traceparent", traceparent());
        if random.random_bool(self.new_connections) {
            request = request.header("connection", "close");
        }
        let mut response = self.agent.run(request.body(body)?)?;
        response.body_mut().read_to_vec()?;
        Ok(response.status().as_u16())
    }
}

fn order(product: usize, random: &mut impl RngExt) -> Result<SendBody<'static>, ureq::Error> {
    let note = "please ring twice, ".repeat(random.random_range(10..60));
    let quantity = random.random_range(1..5);
    SendBody::from_json(&json!({ "product": product, "quantity": quantity, "note": note }))
}

/// A new trace's context, sampled.
fn traceparent() -> String {
    let trace = rand::random::<u128>().max(1);
    let span = rand::random::<u64>().max(1);
    format!("00-{trace:032x}-{span:016x}-01")
}
