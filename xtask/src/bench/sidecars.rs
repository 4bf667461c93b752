//! What a system call costs on a node with many sidecars, in multiples of what the empty pair of
//! programs adds in the same rounds: with one broker that serves them all, and, for contrast, with
//! programs of each sidecar's own.

use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::capture::added_ratios;
use super::figure::{Figure, Goal};
use super::hook::{CALLS, Hook, calls, hook};
use super::processors::{Processor, pin};
use super::rounds::{Spread, interleave};
use crate::lab::{self, Lab};
use crate::workspace::Workspace;

/// What is attached while calls are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Setup {
    None,
    Pair,
    /// So many sidecars, of one broker.
    Served(usize),
    /// So many sidecars with programs of their own.
    SelfContained(usize),
}

const SETUPS: [Setup; 6] = [
    Setup::None,
    Setup::Pair,
    Setup::Served(1),
    Setup::Served(10),
    Setup::Served(50),
    Setup::SelfContained(10),
];

/// Nanoseconds a call.
#[derive(Debug, Clone, Copy)]
struct Cost {
    /// Of a process in none of the pods.
    outside: f64,
    /// Of one in the first pod.
    inside: f64,
}

pub(super) fn run(workspace: &Workspace, rounds: u32) -> Result<Vec<Figure>> {
    let mut bench = Bench::new(workspace)?;
    let costs = interleave(&SETUPS, rounds, |setup| bench.measure(setup))?;
    figures(&costs)
}

/// One caller's cost.
type Pick = fn(&Cost) -> f64;

/// `costs[s][r]`: of `SETUPS[s]` in round `r`.
fn figures(costs: &[Vec<Cost>]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let callers: [(&str, &str, Pick); 2] = [
        ("filtered", "capture.sidecars.spread", |cost| cost.outside),
        ("captured", "capture.sidecars.spread.captured", |cost| {
            cost.inside
        }),
    ];
    for (caller, spread, pick) in callers {
        let of = |setup: Setup| -> Result<Vec<f64>> {
            let which = SETUPS.iter().position(|one| *one == setup);
            let costs = which.and_then(|which| costs.get(which));
            Ok(costs.context("not measured")?.iter().map(pick).collect())
        };
        let (none, pair) = (of(Setup::None)?, of(Setup::Pair)?);
        for sidecars in [1, 10, 50] {
            let ratios = added_ratios(&none, &pair, &of(Setup::Served(sidecars))?);
            figures.extend(ratio(
                format!("capture.sidecars.{caller}.{sidecars}"),
                &ratios,
            ));
        }
        if caller == "filtered" {
            let ratios = added_ratios(&none, &pair, &of(Setup::SelfContained(10))?);
            let name = "capture.sidecars.self_contained.10.filtered".to_owned();
            figures.extend(ratio(name, &ratios));
        }
        let (one, fifty) = (of(Setup::Served(1))?, of(Setup::Served(50))?);
        let ratios = added_ratios(&none, &one, &fifty);
        let more: Vec<f64> = ratios.iter().map(|ratio| (ratio - 1.0) * 100.0).collect();
        let more = Spread::of(&more);
        let figure = Figure::new(spread, more.median, "%").goal(Goal::AtMost(5.0));
        figures.extend(figure.with_spread(&more));
    }
    Ok(figures)
}

fn ratio(name: String, ratios: &[f64]) -> [Figure; 3] {
    let spread = Spread::of(ratios);
    Figure::new(name, spread.median, "× empty pair").with_spread(&spread)
}

/// The callers, for the whole bench; what is attached changes around them.
struct Bench<'a> {
    workspace: &'a Workspace,
    outside: Hook,
    inside: Hook,
    lab: Lab,
}

impl<'a> Bench<'a> {
    fn new(workspace: &'a Workspace) -> Result<Self> {
        let lab = Lab::new("stethos-bench")?;
        let caller = |group: &str| {
            let mut program = calls(workspace, CALLS, "getppid");
            pin(&mut program, Processor::Highest)?;
            Hook::start_in(&lab, group, &mut program)
        };
        Ok(Self {
            workspace,
            outside: caller("other/app")?,
            inside: caller("pods/pod-0/app")?,
            lab,
        })
    }

    fn measure(&mut self, setup: Setup) -> Result<Cost> {
        let _attached = self.attach(setup)?;
        Ok(Cost {
            outside: self.outside.nanoseconds()?,
            inside: self.inside.nanoseconds()?,
        })
    }

    /// Gone in this order when dropped: the sidecars, their broker.
    fn attach(&self, setup: Setup) -> Result<(Option<Hook>, Option<Broker>)> {
        let pods = self.lab.cgroup("pods").display().to_string();
        let sidecars = |count: usize, arguments: &[&str]| {
            let count = count.to_string();
            let mut all = arguments.to_vec();
            all.extend(["--sidecars", &count, "--pods", &pods]);
            let mut command = hook(self.workspace, &all);
            pin(&mut command, Processor::Lowest)?;
            Hook::start_in(&self.lab, "sidecars", &mut command)
        };
        Ok(match setup {
            Setup::None => (None, None),
            Setup::Pair => (Some(Hook::start(hook(self.workspace, &["pair"]))?), None),
            Setup::Served(count) => {
                let broker = Broker::start(self.workspace, &self.lab)?;
                let socket = broker.socket.clone();
                let hook = sidecars(count, &["served", "--socket", &socket])?;
                (Some(hook), Some(broker))
            }
            Setup::SelfContained(count) => (Some(sidecars(count, &["self-contained"])?), None),
        })
    }
}

/// `stethos node` without pins, so that nothing stays when this process is killed.
struct Broker {
    process: Child,
    socket: String,
}

const END_LIMIT: Duration = Duration::from_secs(30);

impl Broker {
    fn start(workspace: &Workspace, lab: &Lab) -> Result<Self> {
        let socket = lab.path("node.sock").display().to_string();
        let mut command = workspace.stethos();
        command
            .args(["node", "--socket", &socket])
            .env("STETHOS_NODE_PINS", "off")
            .env("STETHOS_NODE_MAX_RING_SIZE", "16MiB")
            .env("STETHOS_LOG_LEVEL", "warn")
            .stdin(Stdio::null());
        pin(&mut command, Processor::Lowest)?;
        let process = lab.spawn("broker", &mut command)?;
        Ok(Self { process, socket })
    }

    fn end(&mut self) -> Result<()> {
        lab::send_signal(&self.process, Signal::SIGINT)?;
        lab::wait_for_end(&mut self.process, END_LIMIT).context("after SIGINT")?;
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("the broker: {error:#}");
        }
        // When it has ended, there is nothing left to kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_added_time_and_the_spread_of_fifty_against_one() {
        let cost = |outside, inside| vec![Cost { outside, inside }; 3];
        let costs = [
            cost(100.0, 100.0),
            cost(200.0, 200.0),
            cost(140.0, 200.0),
            cost(141.0, 201.0),
            cost(143.0, 210.0),
            cost(400.0, 500.0),
        ];
        let text: Vec<String> = figures(&costs)
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        for expected in [
            "capture.sidecars.filtered.1: 0.40 × empty pair",
            "capture.sidecars.captured.50: 1.10 × empty pair",
            "capture.sidecars.self_contained.10.filtered: 3.00 × empty pair",
            "capture.sidecars.spread: 7.50 % (goal ≤ 5 %, not met)",
            "capture.sidecars.spread.captured: 10.0 % (goal ≤ 5 %, not met)",
        ] {
            assert!(text.contains(&expected.to_owned()), "{expected}: {text:#?}");
        }
    }
}
