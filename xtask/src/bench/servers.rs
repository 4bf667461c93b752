//! Throughput and the slowest hundredth of answers of real servers, under Stethos and under other
//! tools, against none and against the empty pair in the same rounds. The server has one processor,
//! its load another.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::application::{Application, POD, Server};
use super::figure::Figure;
use super::hook::{Hook, hook};
use super::interval::Interval;
use super::load::{self, CONNECTIONS, Measured, Steady};
use super::peers::{Peer, Tool};
use super::rounds::interleave;
use super::watcher::{LEARNING_LIMIT, WARM_LIMIT, Watcher};
use crate::lab::Lab;
use crate::workspace::Workspace;

pub(super) const SERVERS: [Server; 2] = [Server::Redis, Server::Nginx];
const SPAN: Duration = Duration::from_secs(2);
/// Rounds of a tool under which a server is many times slower.
const SLOW_ROUNDS: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    None,
    /// Two programs that return at once.
    Pair,
    /// Stethos ships every call.
    Captured,
    /// Stethos has learned the server, and ships what is not familiar.
    Steady,
    Peer(Tool),
}

const VARIANTS: [Variant; 7] = [
    Variant::None,
    Variant::Pair,
    Variant::Captured,
    Variant::Steady,
    Variant::Peer(Tool::Bpftrace),
    Variant::Peer(Tool::PerfTrace),
    Variant::Peer(Tool::StraceCount),
];

impl Variant {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pair => "pair",
            Self::Captured => "captured",
            Self::Steady => "steady",
            Self::Peer(Tool::Bpftrace) => "bpftrace",
            Self::Peer(Tool::PerfTrace) => "perf_trace",
            Self::Peer(Tool::StraceCount) => "strace",
        }
    }

    fn most_rounds(self) -> usize {
        match self {
            Self::Peer(Tool::PerfTrace | Tool::StraceCount) => SLOW_ROUNDS,
            _ => usize::MAX,
        }
    }
}

/// Figures of each server; a variant that cannot be measured is named on standard error.
pub(super) fn run(workspace: &Workspace, servers: &[Server], rounds: u32) -> Result<Vec<Figure>> {
    let mut all = Vec::new();
    for &server in servers {
        all.extend(of_server(workspace, server, rounds).context(server.name())?);
    }
    Ok(all)
}

fn of_server(workspace: &Workspace, server: Server, rounds: u32) -> Result<Vec<Figure>> {
    let lab = Lab::new("stethos-bench")?;
    let mut bench = Bench {
        workspace,
        lab: &lab,
        application: Application::start(&lab, server)?,
        state: lab.folder("state")?,
        counts: [0; VARIANTS.len()],
        given_up: [false; VARIANTS.len()],
    };
    if let Err(error) = bench.learn() {
        bench.give_up(Variant::Steady, &error);
    }
    let measured = interleave(&VARIANTS, rounds, |variant| bench.round(variant))?;
    ensure!(
        !bench.given_up[0],
        "without a figure of the server alone there is nothing to compare with"
    );
    Ok(figures(server, &measured))
}

struct Bench<'a> {
    workspace: &'a Workspace,
    lab: &'a Lab,
    application: Application<'a>,
    /// What Stethos has learned of the server.
    state: PathBuf,
    /// Rounds so far, by variant.
    counts: [usize; VARIANTS.len()],
    given_up: [bool; VARIANTS.len()],
}

impl Bench<'_> {
    /// Has Stethos learn the server under the load that is measured later.
    fn learn(&self) -> Result<()> {
        let _load = Steady::start(self.lab, &self.application, CONNECTIONS)?;
        let watcher = self.watcher()?;
        watcher.wait_watching(LEARNING_LIMIT)?;
        watcher.wait_reduced(WARM_LIMIT)?;
        watcher.end()
    }

    fn watcher(&self) -> Result<Watcher> {
        let server = self.application.server;
        Watcher::start(self.workspace, self.lab, server, &self.state)
    }

    /// One measurement; none when the variant has had its rounds or was given up.
    fn round(&mut self, variant: Variant) -> Result<Option<Measured>> {
        let index = VARIANTS.iter().position(|one| *one == variant);
        let index = index.context("an unknown variant")?;
        if self.given_up[index] || self.counts[index] >= variant.most_rounds() {
            return Ok(None);
        }
        self.counts[index] += 1;
        match self.measure(variant) {
            Ok(measured) => Ok(Some(measured)),
            Err(error) => {
                self.application.check()?;
                self.give_up(variant, &error);
                Ok(None)
            }
        }
    }

    fn give_up(&mut self, variant: Variant, error: &anyhow::Error) {
        let server = self.application.server.name();
        eprintln!(
            "servers.{server}.{}: not measured: {error:#}",
            variant.name()
        );
        for (one, given_up) in VARIANTS.iter().zip(&mut self.given_up) {
            *given_up |= *one == variant;
        }
    }

    fn measure(&self, variant: Variant) -> Result<Measured> {
        let measure = || load::measure(self.lab, &self.application, SPAN);
        match variant {
            Variant::None => measure(),
            Variant::Pair => {
                let _attached = Hook::start(hook(self.workspace, &["pair"]))?;
                measure()
            }
            Variant::Captured => {
                let pod = self.lab.cgroup(POD).display().to_string();
                let arguments = ["captured", "--cgroup", &pod];
                let _attached = Hook::start(hook(self.workspace, &arguments))?;
                measure()
            }
            Variant::Steady => {
                let watcher = self.watcher()?;
                let warming = Steady::start(self.lab, &self.application, CONNECTIONS)?;
                watcher.wait_reduced(WARM_LIMIT)?;
                drop(warming);
                let measured = measure()?;
                watcher.end()?;
                Ok(measured)
            }
            Variant::Peer(tool) => {
                let peer = Peer::attach(self.lab, tool, &self.application)?;
                let measured = measure()?;
                peer.detach()?;
                Ok(measured)
            }
        }
    }
}

/// `measured[v][r]`: `VARIANTS[v]` in round `r`.
fn figures(server: Server, measured: &[Vec<Option<Measured>>]) -> Vec<Figure> {
    let (Some(none), Some(pair)) = (measured.first(), measured.get(1)) else {
        return Vec::new();
    };
    let mut figures = Vec::new();
    for (variant, rounds) in VARIANTS.iter().zip(measured) {
        let name = |what: &str| format!("servers.{}.{}.{what}", server.name(), variant.name());
        let p99: Vec<f64> = rounds.iter().flatten().map(|one| one.p99_ms).collect();
        let rate: Vec<f64> = rounds.iter().flatten().map(|one| one.rate).collect();
        let of_none = rate_ratios(rounds, none);
        let of_pair = rate_ratios(rounds, pair);
        let mut row: Vec<(&str, &[f64], &'static str)> = vec![("p99", &p99, "ms")];
        match variant {
            Variant::None => row.push(("rate", &rate, "requests/s")),
            Variant::Pair => row.push(("throughput", &of_none, "× none")),
            _ => row.extend([
                ("throughput", &*of_none, "× none"),
                ("throughput_of_pair", &*of_pair, "× empty pair"),
            ]),
        }
        for (what, values, unit) in row {
            if let Some(interval) = Interval::of(values) {
                let figure = Figure::new(name(what), interval.mean, unit);
                figures.extend(figure.with_interval(&interval));
            }
        }
        if !rate.is_empty() {
            figures.push(Figure::new(name("rounds"), rate.len() as f64, "rounds"));
        }
    }
    figures
}

/// Of the rounds in which both were measured.
fn rate_ratios(rounds: &[Option<Measured>], base: &[Option<Measured>]) -> Vec<f64> {
    let both = rounds.iter().zip(base);
    both.filter_map(|(one, base)| Some((one.as_ref()?, base.as_ref()?)))
        .filter(|(_, base)| base.rate > 0.0)
        .map(|(one, base)| one.rate / base.rate)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_the_same_round_and_what_was_not_measured_has_no_figure() {
        let row = |rates: &[f64]| -> Vec<Option<Measured>> {
            let measured = |&rate: &f64| (rate > 0.0).then_some(Measured { rate, p99_ms: 0.5 });
            rates.iter().map(measured).collect()
        };
        let measured = [
            row(&[100.0, 200.0, 100.0]),
            row(&[90.0, 180.0, 90.0]),
            row(&[80.0, 160.0, 80.0]),
            row(&[0.0, 0.0, 0.0]),
            row(&[70.0, 140.0, 70.0]),
            row(&[20.0, 40.0, 0.0]),
            row(&[0.0, 0.0, 0.0]),
        ];
        let figures = figures(Server::Redis, &measured);
        let text: Vec<String> = figures.iter().map(ToString::to_string).collect();
        for expected in [
            "servers.redis.pair.throughput: 0.90 × none",
            "servers.redis.captured.throughput: 0.80 × none",
            "servers.redis.captured.throughput.low_95: 0.80 × none",
            "servers.redis.captured.throughput_of_pair: 0.89 × empty pair",
            "servers.redis.captured.p99: 0.50 ms",
            "servers.redis.perf_trace.throughput: 0.20 × none",
            "servers.redis.perf_trace.rounds: 2.00 rounds",
        ] {
            assert!(text.contains(&expected.to_owned()), "{expected}: {text:#?}");
        }
        let silent = |name: &str| text.iter().all(|line| !line.contains(name));
        assert!(silent(".steady.") && silent(".strace."), "{text:#?}");
    }
}
