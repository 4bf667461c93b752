//! `cargo xtask bench`: measured figures, side by side in one run, against their goals.

mod agent;
mod application;
mod capture;
mod figure;
mod hook;
mod interval;
mod learning;
mod load;
mod outage;
mod paced;
mod peers;
mod plugin;
mod processors;
mod rounds;
mod saturation;
mod scoring;
mod servers;
mod sidecars;
mod steady;
mod trace;
mod units;
mod watcher;

use anyhow::{Result, anyhow, bail};

use crate::build;
use crate::setup::{self, Scope};
use crate::workspace::Workspace;
use application::Server;
use figure::Figure;

#[derive(Debug, clap::Args)]
pub(crate) struct BenchOptions {
    /// What to measure; all of them when none is named.
    #[arg(value_enum)]
    benches: Vec<Bench>,
    /// One JSON object a line: name, value, unit, goal (text or null), met (bool or null).
    #[arg(long)]
    json: bool,
    /// Interleaved rounds; every variant runs once in each.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(3..))]
    rounds: u32,
    /// Only these servers, of `servers` and `steady`.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SERVERS")]
    server: Vec<Server>,
    /// Connections that `steady` measures with.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64],
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    connections: Vec<u32>,
    /// Requests of each kind that `join` makes.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(64..=10_000_000))]
    requests: u32,
    /// How long the collector of `outage` is away.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    #[command(flatten)]
    learning: learning::LearningOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Bench {
    /// Cost of a system call under capture, against an empty pair of programs.
    Capture,
    /// The same with many sidecars on the node, served by one broker.
    Sidecars,
    /// What becomes of calls that are too many.
    Saturation,
    /// Throughput and latency of redis and nginx under Stethos and under other tools.
    Servers,
    /// What is shipped, and the sidecar's CPU, once servers are learned.
    Steady,
    /// The sidecar's CPU and memory under the demo's load.
    Agent,
    /// Windows a second through the model in the guest.
    Plugin,
    /// The same against ONNX Runtime, and how many windows of real servers were scored before; only when
    /// it is named.
    Scoring,
    /// How well what is learned of real servers tells faults from normal time; only when it is named.
    Learning,
    /// Ways to cut the calls of real servers into units of work; only when it is named.
    Units,
    /// What it costs to find the spans of calls; only when it is named.
    Trace,
    /// Whose spans the calls of 64 requests at once are put under; only when it is named.
    Join,
    /// What arrives after a collector was away; only when it is named.
    Outage,
}

const ALL: [Bench; 7] = [
    Bench::Capture,
    Bench::Sidecars,
    Bench::Saturation,
    Bench::Servers,
    Bench::Steady,
    Bench::Plugin,
    Bench::Agent,
];

pub(crate) fn run(workspace: &Workspace, options: &BenchOptions) -> Result<()> {
    let benches = if options.benches.is_empty() {
        &ALL[..]
    } else {
        &options.benches
    };
    let with_servers = |bench: &Bench| {
        matches!(
            bench,
            Bench::Servers | Bench::Steady | Bench::Units | Bench::Trace
        )
    };
    let scope = if benches.contains(&Bench::Learning) {
        Scope::Corpus
    } else if benches.iter().any(with_servers) {
        Scope::Bench
    } else {
        Scope::Demo
    };
    let plan = setup::run(workspace, scope)?;
    build::test_artifacts(workspace, &plan)?;
    build::run(workspace, &plan, scope)?;
    let onnx = match benches.contains(&Bench::Scoring) {
        true => setup::run(workspace, Scope::Scoring)?.onnx,
        false => None,
    };
    let collector = match benches.contains(&Bench::Outage) {
        true => setup::run(workspace, Scope::Test)?.rotel,
        false => None,
    };

    let mut failed = Vec::new();
    for bench in benches {
        let figures = match bench {
            Bench::Capture => capture::run(workspace, options.rounds),
            Bench::Sidecars => sidecars::run(workspace, options.rounds),
            Bench::Saturation => saturation::run(workspace, options.rounds),
            Bench::Servers => {
                let servers = chosen(&options.server, &servers::SERVERS);
                servers::run(workspace, &servers, options.rounds)
            }
            Bench::Steady => {
                let servers = chosen(&options.server, &steady::SERVERS);
                steady::run(workspace, &servers, &options.connections)
            }
            Bench::Agent => agent::run(workspace),
            Bench::Plugin => plugin::run(workspace, options.rounds),
            Bench::Scoring => scoring::run(
                workspace,
                onnx.as_deref(),
                options.rounds,
                &options.learning,
            ),
            Bench::Learning => learning::run(workspace, &options.learning),
            Bench::Units => units::run(workspace, options.json),
            Bench::Trace => {
                let mut figures = trace::cost(workspace, options.rounds)?;
                figures.extend(trace::throughput(workspace, options.rounds)?);
                Ok(figures)
            }
            Bench::Join => trace::join(workspace, options.requests),
            Bench::Outage => match &collector {
                Some(collector) => outage::run(workspace, collector, options.minutes),
                None => Err(anyhow!("there is no collector")),
            },
        };
        match figures {
            Ok(figures) => print(&figures, options.json),
            Err(error) => {
                eprintln!("{bench:?} was not measured: {error:#}");
                failed.push(format!("{bench:?}"));
            }
        }
    }
    if !failed.is_empty() {
        bail!("not measured: {}", failed.join(", "));
    }
    Ok(())
}

/// Those of `known` that are `wanted`; all when none is.
fn chosen(wanted: &[Server], known: &[Server]) -> Vec<Server> {
    let is_wanted = |one: &&Server| wanted.is_empty() || wanted.contains(one);
    known.iter().filter(is_wanted).copied().collect()
}

fn print(figures: &[Figure], json: bool) {
    for figure in figures {
        if json {
            println!("{}", figure.json());
        } else {
            println!("{figure}");
        }
    }
}
