//! What it costs to find the span of a call, and how often it is found.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::application::{Application, POD};
use super::figure::{Figure, Goal};
use super::hook::{CALLS, Hook, PUBLISHER, calls, hook};
use super::load;
use super::processors::{Processor, pin};
use super::rounds::{Spread, interleave};
use super::servers::SERVERS;
use crate::lab::Lab;
use crate::workspace::Workspace;

/// `bench-join REQUESTS` gives one JSON object for each way of asking.
const JOIN: &str = "bench-join";
const SPAN: Duration = Duration::from_secs(2);

/// Who calls, and how it is captured.
#[derive(Debug, Clone, Copy)]
struct Variant {
    name: &'static str,
    /// The program, and of what.
    calls: (&'static str, &'static str),
    capture: Option<&'static [&'static str]>,
}

const CAPTURED: Option<&[&str]> = Some(&["captured"]);

const VARIANTS: [Variant; 7] = [
    Variant {
        name: "getppid.none",
        calls: (CALLS, "getppid"),
        capture: None,
    },
    Variant {
        name: "getppid.pair",
        calls: (CALLS, "getppid"),
        capture: Some(&["pair"]),
    },
    Variant {
        name: "getppid.captured",
        calls: (CALLS, "getppid"),
        capture: CAPTURED,
    },
    Variant {
        name: "getppid.published",
        calls: (PUBLISHER, "same"),
        capture: CAPTURED,
    },
    Variant {
        name: "getppid.published_changing",
        calls: (PUBLISHER, "changing"),
        capture: CAPTURED,
    },
    Variant {
        name: "write.without_heads",
        calls: (CALLS, "write"),
        capture: Some(&["captured", "--http", "off"]),
    },
    Variant {
        name: "write.with_heads",
        calls: (CALLS, "write"),
        capture: CAPTURED,
    },
];

/// What a rung adds: the variant with it, the one without.
const ADDED: [(&str, usize, usize); 3] = [
    ("thread_context", 3, 2),
    ("thread_context_changing", 4, 2),
    ("traceparent", 6, 5),
];

pub(super) fn cost(workspace: &Workspace, rounds: u32) -> Result<Vec<Figure>> {
    let values = interleave(&VARIANTS, rounds, |variant| measure(workspace, variant))?;
    let mut figures = Vec::new();
    for (variant, values) in VARIANTS.iter().zip(&values) {
        let spread = Spread::of(values);
        let name = format!("trace.{}", variant.name);
        figures.extend(Figure::new(name, spread.median, "ns").with_spread(&spread));
    }
    for (rung, with, without) in ADDED {
        let pairs = values[with].iter().zip(&values[without]);
        let added: Vec<f64> = pairs.map(|(with, without)| with - without).collect();
        let spread = Spread::of(&added);
        let name = format!("trace.added.{rung}");
        figures.extend(Figure::new(name, spread.median, "ns/call").with_spread(&spread));
    }
    Ok(figures)
}

/// What looking at heads costs servers: their throughput with it, of that without.
pub(super) fn throughput(workspace: &Workspace, rounds: u32) -> Result<Vec<Figure>> {
    const WAYS: [Option<&[&str]>; 3] = [None, Some(&["--http", "off"]), Some(&[])];
    let mut figures = Vec::new();
    for server in SERVERS {
        let lab = Lab::new("stethos-bench")?;
        let application = Application::start(&lab, server)?;
        let pod = lab.cgroup(POD).display().to_string();
        let rates = interleave(&WAYS, rounds, |way| {
            let words = way.map(|words| [&["captured", "--cgroup", &pod], words].concat());
            let attached = words.map(|words| Hook::start(hook(workspace, &words)));
            let _attached = attached.transpose()?;
            Ok(load::measure(&lab, &application, SPAN)?.rate)
        })?;
        let [none, without, with] = rates.as_slice() else {
            continue;
        };
        for (name, rates, base, unit) in [
            ("without_heads", without, none, "× none"),
            ("with_heads", with, none, "× none"),
            ("heads", with, without, "× without"),
        ] {
            let ratios = rates.iter().zip(base).map(|(rate, base)| rate / base);
            let spread = Spread::of(&ratios.collect::<Vec<f64>>());
            let name = format!("trace.throughput.{}.{name}", server.name());
            figures.extend(Figure::new(name, spread.median, unit).with_spread(&spread));
        }
    }
    Ok(figures)
}

/// Nanoseconds that a call takes. The caller is a new process each time: what it publishes is looked for in
/// its first second.
fn measure(workspace: &Workspace, variant: Variant) -> Result<f64> {
    let (program, of) = variant.calls;
    let mut program = calls(workspace, program, of);
    pin(&mut program, Processor::Highest)?;
    let mut caller = Hook::start(program)?;
    let pid = caller.id().to_string();
    let _attached = match variant.capture {
        None => None,
        Some(["pair"]) => Some(Hook::start(hook(workspace, &["pair"]))?),
        Some(words) => {
            let words = [words, &["--pid", &pid]].concat();
            let attached = Hook::start(hook(workspace, &words))?;
            // The process is seen with its first call, and looked at once it was.
            caller.nanoseconds()?;
            std::thread::sleep(std::time::Duration::from_millis(1200));
            Some(attached)
        }
    };
    caller.nanoseconds()
}

/// Shares of calls of `requests` requests of each kind.
pub(super) fn join(workspace: &Workspace, requests: u32) -> Result<Vec<Figure>> {
    let program = workspace.target.join("release").join(JOIN);
    let output = Command::new(&program)
        .arg(requests.to_string())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| program.display().to_string())?;
    ensure!(output.status.success(), "{JOIN} failed: {}", output.status);
    let mut figures = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let told: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        figures.extend(shares(&told)?);
    }
    Ok(figures)
}

fn shares(told: &Value) -> Result<Vec<Figure>> {
    const PLACES: [&str; 6] = ["right", "trace", "wrong", "linked", "linked_wrong", "none"];
    let text = |key: &str| told[key].as_str().with_context(|| format!("no {key}"));
    let of = format!(
        "join.{}.{}.{}",
        text("application")?,
        text("rung")?,
        text("operation")?
    );
    let count = |place: &str| told[place].as_u64().unwrap_or(0) as f64;
    let all: f64 = PLACES.iter().map(|place| count(place)).sum();
    ensure!(all > 0.0, "{of}: no call was seen");
    let figures = PLACES.iter().map(|place| {
        let share = 100.0 * count(place) / all;
        let figure = Figure::new(format!("{of}.{place}"), share, "% of calls");
        match *place {
            "wrong" => figure.goal(Goal::AtMost(0.0)),
            _ => figure,
        }
    });
    Ok(figures.collect())
}
