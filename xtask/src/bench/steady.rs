//! What Stethos ships and uses of the processor once it has learned a server, under a load that does
//! not change.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::application::{Application, Server};
use super::figure::{Figure, Goal};
use super::load::Steady;
use super::paced::Paced;
use super::watcher::{LEARNING_LIMIT, Said, Totals, WARM_LIMIT, Watcher};
use crate::lab::Lab;
use crate::workspace::Workspace;

pub(super) const SERVERS: [Server; 4] = [Server::Redis, Server::Nginx, Server::Proxy, Server::Node];
const SPAN: Duration = Duration::from_secs(20);
/// A running sidecar says what it captures every five seconds.
const SAID_LIMIT: Duration = Duration::from_secs(30);
/// How often it may ship everything again before it is given up.
const RETURNS: u32 = 2;
const UNIT: f64 = 100_000.0;
/// Of the load that is held near 100 000 calls a second.
const PACED_CONNECTIONS: u32 = 64;
/// Requests a second that it begins with.
const PACED_RATE: u64 = 40_000;
/// How often its rate is set by what Stethos sees, while it learns.
const PACED_STEPS: u32 = 2;

/// What Stethos did over a span of time.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Usage {
    seconds: f64,
    /// Processor time, in seconds.
    processor: f64,
    seen: u64,
    delivered: u64,
    lost: u64,
    /// How often it had shipped everything again before.
    returns: u32,
}

impl Usage {
    fn shipped_percent(&self) -> f64 {
        100.0 * self.delivered as f64 / (self.seen as f64).max(1.0)
    }

    fn lost_percent(&self) -> f64 {
        100.0 * self.lost as f64 / (self.seen as f64).max(1.0)
    }

    fn processor_percent(&self) -> f64 {
        100.0 * self.processor / self.seconds
    }

    /// Calls a second.
    fn rate(&self) -> f64 {
        self.seen as f64 / self.seconds
    }

    /// Per cent of a core for 100 000 calls a second.
    fn processor_per_100k(&self) -> f64 {
        self.processor_percent() * UNIT / self.rate().max(1.0)
    }
}

/// Figures of each server and number of connections; what cannot be measured is named on standard
/// error.
pub(super) fn run(
    workspace: &Workspace,
    servers: &[Server],
    connections: &[u32],
) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for &server in servers {
        for &connections in connections {
            let name = format!("steady.{}.{connections}", server.name());
            match of_server(workspace, server, connections) {
                Ok(usage) => figures.extend(of_usage(&name, &usage)),
                Err(error) => eprintln!("{name}: not measured: {error:#}"),
            }
        }
        if server == Server::Redis {
            match of_paced(workspace) {
                Ok(usage) => figures.extend(of_paced_usage(&usage)),
                Err(error) => eprintln!("steady.cpu_per_100k: not measured: {error:#}"),
            }
        }
    }
    ensure!(!figures.is_empty(), "nothing was measured");
    Ok(figures)
}

fn of_usage(name: &str, usage: &Usage) -> Vec<Figure> {
    let name = |what: &str| format!("{name}.{what}");
    let figures = vec![
        Figure::new(name("shipped"), usage.shipped_percent(), "%").goal(Goal::AtMost(1.0)),
        Figure::new(name("lost"), usage.lost_percent(), "%"),
        Figure::new(name("cpu"), usage.processor_percent(), "% of a core"),
        Figure::new(name("rate"), usage.rate(), "calls/s"),
        Figure::new(name("returns"), f64::from(usage.returns), "times"),
        Figure::new(
            name("cpu_per_100k"),
            usage.processor_per_100k(),
            "% of a core",
        ),
    ];
    for figure in &figures {
        eprintln!("  {figure}");
    }
    figures
}

fn of_paced_usage(usage: &Usage) -> Vec<Figure> {
    let name = "steady.cpu_per_100k";
    let per_100k = usage.processor_per_100k();
    vec![
        Figure::new(name, per_100k, "% of a core").goal(Goal::AtMost(1.0)),
        Figure::new(format!("{name}.rate"), usage.rate(), "calls/s"),
        Figure::new(format!("{name}.shipped"), usage.shipped_percent(), "%"),
    ]
}

fn of_server(workspace: &Workspace, server: Server, connections: u32) -> Result<Usage> {
    eprintln!("steady: {} at {connections} connections", server.name());
    let lab = Lab::new("stethos-bench")?;
    let mut application = Application::start(&lab, server)?;
    let mut load = Steady::start(&lab, &application, connections)?;
    let watcher = Watcher::start(workspace, &lab, server, &lab.folder("state")?)?;
    watcher.wait_watching(LEARNING_LIMIT)?;
    let usage = once_reduced(&watcher)?;
    load.check()?;
    application.check()?;
    watcher.end()?;
    Ok(usage)
}

/// redis with a load that makes it do 100 000 calls a second, if it can.
fn of_paced(workspace: &Workspace) -> Result<Usage> {
    eprintln!("steady: redis at 100 000 calls/s");
    let lab = Lab::new("stethos-bench")?;
    let mut application = Application::start(&lab, Server::Redis)?;
    let mut load = Paced::start(application.port, PACED_CONNECTIONS, PACED_RATE)?;
    let watcher = Watcher::start(workspace, &lab, Server::Redis, &lab.folder("state")?)?;
    pace(&watcher, &load)?;
    let usage = once_reduced(&watcher)?;
    load.check()?;
    application.check()?;
    watcher.end()?;
    Ok(usage)
}

/// Sets the rate of the load by the calls that Stethos sees, and waits until it is watching.
fn pace(watcher: &Watcher, load: &Paced) -> Result<()> {
    let end = Instant::now() + LEARNING_LIMIT;
    let mut before: Option<(Instant, Totals)> = None;
    let mut steps = 0;
    loop {
        match watcher.next(end)? {
            Said::Watching => return Ok(()),
            Said::Capturing(totals) => {
                let now = Instant::now();
                if let Some((then, old)) = before
                    && steps < PACED_STEPS
                {
                    steps += 1;
                    let calls = totals.seen.saturating_sub(old.seen) as f64;
                    let rate = calls / now.duration_since(then).as_secs_f64();
                    load.set_rate(paced_rate(load.rate(), rate));
                }
                before = Some((now, totals));
            }
        }
    }
}

/// Requests a second that make about 100 000 calls a second, when `rate` made `calls`.
fn paced_rate(rate: u64, calls: f64) -> u64 {
    let factor = (UNIT / calls.max(1.0)).clamp(0.2, 5.0);
    (rate as f64 * factor) as u64
}

/// Waits until Stethos reduces, and measures from then on. When it ships everything again, once more
/// from when it reduces again.
fn once_reduced(watcher: &Watcher) -> Result<Usage> {
    for returns in 0..=RETURNS {
        watcher.wait_reduced(WARM_LIMIT)?;
        let first = Look::take(watcher)?;
        loop {
            let last = Look::take(watcher)?;
            if !last.totals.reduced {
                eprintln!("  it ships everything again: {}", watcher.last_words());
                break;
            }
            if last.at.duration_since(first.at) >= SPAN {
                let usage = first.until(&last)?;
                return Ok(Usage { returns, ..usage });
            }
        }
    }
    bail!("it does not stay reduced for {} s", SPAN.as_secs())
}

/// The sidecar at the moment of a line about what it captures.
struct Look {
    at: Instant,
    /// Processor time so far, in seconds.
    processor: f64,
    totals: Totals,
}

impl Look {
    fn take(watcher: &Watcher) -> Result<Self> {
        let totals = watcher.totals(Instant::now() + SAID_LIMIT)?;
        Ok(Self {
            at: Instant::now(),
            processor: watcher.processor_time()?,
            totals,
        })
    }

    fn until(&self, last: &Self) -> Result<Usage> {
        let more = |of: fn(&Totals) -> u64| {
            let more = of(&last.totals).checked_sub(of(&self.totals));
            more.context("the container's counts went back")
        };
        Ok(Usage {
            seconds: last.at.duration_since(self.at).as_secs_f64(),
            processor: last.processor - self.processor,
            seen: more(|totals| totals.seen)?,
            delivered: more(|totals| totals.delivered)?,
            lost: more(|totals| totals.lost)?,
            returns: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at: Instant, processor: f64, seen: u64, delivered: u64) -> Look {
        let totals = Totals {
            seen,
            delivered,
            counted: seen - delivered,
            reduced: true,
            ..Totals::default()
        };
        Look {
            at,
            processor,
            totals,
        }
    }

    #[test]
    fn what_came_before_the_span_does_not_count() {
        let began = Instant::now();
        let first = look(began, 3.0, 1_000_000, 900_000);
        let last = look(began + SPAN, 3.4, 5_000_000, 920_000);
        let usage = first.until(&last).unwrap();
        assert_eq!(usage.shipped_percent(), 0.5);
        assert_eq!(usage.rate(), 200_000.0);
        assert!((usage.processor_percent() - 2.0).abs() < 1e-9, "{usage:?}");
        assert!((usage.processor_per_100k() - 1.0).abs() < 1e-9, "{usage:?}");
        let text: Vec<String> = of_usage("steady.redis.16", &usage)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert!(
            text.contains(&"steady.redis.16.shipped: 0.50 % (goal ≤ 1 %, met)".to_owned()),
            "{text:#?}"
        );
        assert!(last.until(&first).is_err(), "counts that go back");
    }

    #[test]
    fn the_rate_of_the_load_goes_to_a_hundred_thousand_calls() {
        assert_eq!(paced_rate(40_000, 80_000.0), 50_000);
        assert_eq!(paced_rate(40_000, 0.0), 200_000);
        assert_eq!(paced_rate(40_000, 10_000_000.0), 8_000);
    }
}
