//! Load on a server: for a few seconds with what came of it, or steadily until it is stopped.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::application::{Application, PAGES, Server};
use super::processors::{Processor, pin};
use crate::lab::{Lab, wait_for_end};

/// What a measured load came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measured {
    /// Requests a second.
    pub(super) rate: f64,
    pub(super) p99_ms: f64,
}

/// Connections of a measured load.
pub(super) const CONNECTIONS: u32 = 32;
/// Requests that say how many fill the time.
const TRIAL: u32 = 3_000;
/// A load that takes this much longer than it should has hung.
const LIMIT: Duration = Duration::from_secs(60);

/// Loads `application` for about so long.
pub(super) fn measure(lab: &Lab, application: &Application, span: Duration) -> Result<Measured> {
    if application.server == Server::Redis {
        let get = |requests: u32| {
            let mut command = redis(application.port, CONNECTIONS, requests);
            command.args(["-t", "get", "--csv"]);
            let text = to_end(lab, &mut command, span + LIMIT)?;
            from_redis(&text).with_context(|| format!("redis-benchmark said {text:?}"))
        };
        let trial = get(TRIAL)?;
        return get((trial.rate * span.as_secs_f64()) as u32);
    }
    let mut command = wrk(lab, application.port, CONNECTIONS, span)?;
    let text = to_end(lab, &mut command, span + LIMIT)?;
    from_wrk(&text).with_context(|| format!("wrk said {text:?}"))
}

/// A load that goes on until this is dropped.
pub(super) struct Steady(Child);

impl Steady {
    pub(super) fn start(lab: &Lab, application: &Application, connections: u32) -> Result<Self> {
        const ENDLESS: Duration = Duration::from_secs(24 * 3600);
        let mut command = match application.server {
            Server::Redis => {
                // SETs and GETs take turns of a second at most: a steady mix.
                let turn = (5_000 * connections).min(100_000);
                let mut command = redis(application.port, connections, turn);
                command.args(["-t", "set,get", "-l", "-q"]);
                command
            }
            _ => wrk(lab, application.port, connections, ENDLESS)?,
        };
        pin(&mut command, Processor::Lowest)?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(Self(lab.spawn("load", &mut command)?))
    }

    /// Says so when it ended by itself.
    pub(super) fn check(&mut self) -> Result<()> {
        let ended = self.0.try_wait()?;
        ensure!(ended.is_none(), "the load ended: {ended:?}");
        Ok(())
    }
}

impl Drop for Steady {
    fn drop(&mut self) {
        // When it has ended, there is nothing left to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn redis(port: u16, connections: u32, requests: u32) -> Command {
    let mut command = Command::new("redis-benchmark");
    for (option, value) in [
        ("-p", u32::from(port)),
        ("-c", connections),
        ("-n", requests.max(connections)),
        ("-r", 10_000),
        ("-d", 128),
    ] {
        command.args([option, &value.to_string()]);
    }
    command
}

/// Asks for the pages in turn.
fn wrk(lab: &Lab, port: u16, connections: u32, span: Duration) -> Result<Command> {
    let script = lab.path("pages.lua");
    let text = format!(
        "local n = 0\n\
         request = function()\n  n = n + 7\n  \
         return wrk.format('GET', '/' .. (n % {PAGES}))\nend\n"
    );
    fs::write(&script, text).with_context(|| script.display().to_string())?;
    let mut command = Command::new("wrk");
    command.args(["-t1", "--latency", "--timeout", "30s"]);
    command.args(["-c", &connections.to_string()]);
    command.args(["-d", &format!("{}s", span.as_secs().max(1))]);
    command.arg("-s").arg(script);
    command.arg(format!("http://127.0.0.1:{port}/"));
    Ok(command)
}

/// Runs it beside the server, and gives what it printed.
fn to_end(lab: &Lab, command: &mut Command, limit: Duration) -> Result<String> {
    let output: PathBuf = lab.path("load.out");
    let file = File::create(&output).with_context(|| output.display().to_string())?;
    pin(command, Processor::Lowest)?;
    command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(Stdio::null());
    let mut load = Steady(lab.spawn("load", command)?);
    let status = wait_for_end(&mut load.0, limit).context("the load")?;
    ensure!(status.success(), "the load failed: {status}");
    fs::read_to_string(&output).with_context(|| output.display().to_string())
}

/// Of the table that `redis-benchmark --csv` prints, the only row.
fn from_redis(text: &str) -> Option<Measured> {
    let mut rows = text.lines().map(|line| {
        let cells = line.split(',').map(|cell| cell.trim_matches('"'));
        cells.collect::<Vec<_>>()
    });
    let names = rows.by_ref().find(|row| row.contains(&"rps"))?;
    let row = rows.next()?;
    let cell = |name: &str| -> Option<f64> {
        let which = names.iter().position(|one| *one == name)?;
        row.get(which)?.parse().ok()
    };
    Some(Measured {
        rate: cell("rps")?,
        p99_ms: cell("p99_latency_ms")?,
    })
}

/// Of what `wrk --latency` prints; nothing when requests failed.
fn from_wrk(text: &str) -> Option<Measured> {
    let after = |label: &str| {
        text.lines()
            .find_map(|line| line.trim().strip_prefix(label))
    };
    if after("Non-2xx or 3xx responses:").is_some() || after("Socket errors:").is_some() {
        return None;
    }
    Some(Measured {
        rate: after("Requests/sec:")?.trim().parse().ok()?,
        p99_ms: milliseconds(after("99%")?.trim())?,
    })
}

/// `1.23ms`, `456.00us`, `1.20s`
fn milliseconds(text: &str) -> Option<f64> {
    let units = [("us", 1e-3), ("ms", 1.0), ("s", 1e3), ("m", 6e4)];
    units.iter().find_map(|(unit, milliseconds)| {
        let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
        Some(number * milliseconds)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_benchmark_is_read_by_the_names_of_its_columns() {
        let text = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\
                    \"p95_latency_ms\",\"p99_latency_ms\",\"max_latency_ms\"\n\
                    \"GET\",\"106382.98\",\"0.247\",\"0.072\",\"0.239\",\"0.343\",\"0.487\",\"1.055\"\n";
        let expected = Measured {
            rate: 106_382.98,
            p99_ms: 0.487,
        };
        assert_eq!(from_redis(text), Some(expected));
        assert_eq!(from_redis("Could not connect to Redis"), None);
    }

    #[test]
    fn wrk_is_read_with_every_unit_and_not_when_requests_failed() {
        let text = "Running 2s test @ http://127.0.0.1:1/\n  Latency Distribution\n     50%  316.00us\n     \
                    99%    1.23ms\n  50123 requests in 2.00s, 100MB read\nRequests/sec:  25061.50\n";
        let expected = Measured {
            rate: 25_061.5,
            p99_ms: 1.23,
        };
        assert_eq!(from_wrk(text), Some(expected));
        let failed = format!("{text}  Non-2xx or 3xx responses: 7\n");
        assert_eq!(from_wrk(&failed), None);
        assert_eq!(milliseconds("456.00us"), Some(0.456));
        assert_eq!(milliseconds("1.20s"), Some(1200.0));
        assert_eq!(milliseconds("x"), None);
    }
}
