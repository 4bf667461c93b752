//! What a system call costs under capture, in multiples of what an empty `sys_enter` +
//! `sys_exit` pair of programs adds: the floor that no tracepoint tool goes under.

use std::hint::black_box;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::{Pid, getppid};

use super::figure::{Figure, Goal};
use super::rounds::{Spread, interleave};
use crate::workspace::Workspace;

/// Loads one variant's kernel programs: `bench-hook pair | filtered | captured | familiar`, with
/// `--pid PID` for the process that makes the calls. It prints `ready` once they are attached,
/// and detaches and ends when its standard input ends.
const HOOK: &str = "bench-hook";
const THIS: Pid = Pid::from_raw(0);
const CALLS: u32 = 200_000;
/// The best of these is a round's value: only interruptions make a batch slower.
const BATCHES: usize = 7;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    /// No program is attached.
    None,
    /// Two programs that return at once.
    Pair,
    /// Stethos watches another process.
    Filtered,
    /// Stethos captures every call of this process.
    Captured,
    /// The same, and knows them: they are only counted.
    Familiar,
}

const VARIANTS: [Variant; 5] = [
    Variant::None,
    Variant::Pair,
    Variant::Filtered,
    Variant::Captured,
    Variant::Familiar,
];

pub(super) fn run(workspace: &Workspace, rounds: u32) -> Result<Vec<Figure>> {
    let values = interleave(&VARIANTS, rounds, |variant| measure(workspace, variant))?;
    Ok(figures(&values))
}

/// `values[v][r]`: nanoseconds a call of `VARIANTS[v]` in round `r`.
fn figures(values: &[Vec<f64>]) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (variant, values) in VARIANTS.iter().zip(values) {
        let spread = Spread::of(values);
        let name = format!("capture.getppid.{}", variant.name());
        figures.extend(Figure::new(name, spread.median, "ns").with_spread(&spread));
    }
    let goals = [
        (2, Some(Goal::AtMost(0.9))),
        (3, Some(Goal::AtMost(1.8))),
        (4, None),
    ];
    for (which, goal) in goals {
        let ratios = added_ratios(&values[0], &values[1], &values[which]);
        let spread = Spread::of(&ratios);
        let name = format!("capture.added.{}", VARIANTS[which].name());
        let mut figure = Figure::new(name, spread.median, "× empty pair");
        if let Some(goal) = goal {
            figure = figure.goal(goal);
        }
        figures.extend(figure.with_spread(&spread));
    }
    figures
}

/// Added time against the empty pair's, round by round; a round in which the pair added nothing
/// measurable has no ratio.
fn added_ratios(none: &[f64], pair: &[f64], variant: &[f64]) -> Vec<f64> {
    none.iter()
        .zip(pair)
        .zip(variant)
        .filter(|((none, pair), _)| pair > none)
        .map(|((none, pair), value)| (value - none) / (pair - none))
        .collect()
}

fn measure(workspace: &Workspace, variant: Variant) -> Result<f64> {
    let _attached = match variant {
        Variant::None => None,
        _ => Some(Hook::attach(workspace, variant)?),
    };
    let _pinned = OneProcessor::stay()?;
    let best = (0..BATCHES).map(|_| batch()).fold(f64::INFINITY, f64::min);
    Ok(best)
}

/// Nanoseconds a call over one batch of `getppid`, the cheapest call that enters the kernel.
fn batch() -> f64 {
    let start = Instant::now();
    for _ in 0..CALLS {
        black_box(getppid());
    }
    start.elapsed().as_nanos() as f64 / f64::from(CALLS)
}

/// Keeps this process on one processor as long as it lives; what it starts meanwhile too.
struct OneProcessor(CpuSet);

impl OneProcessor {
    /// Takes the highest processor that is allowed: a reader of events then has the others.
    fn stay() -> Result<Self> {
        let allowed = sched_getaffinity(THIS)?;
        let highest = (0..CpuSet::count())
            .rev()
            .find(|&cpu| allowed.is_set(cpu).unwrap_or(false))
            .context("no processor is allowed")?;
        let mut one = CpuSet::new();
        one.set(highest)?;
        sched_setaffinity(THIS, &one).context("cannot stay on one processor")?;
        Ok(Self(allowed))
    }
}

impl Drop for OneProcessor {
    fn drop(&mut self) {
        if let Err(error) = sched_setaffinity(THIS, &self.0) {
            eprintln!("still on one processor: {error}");
        }
    }
}

impl Variant {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pair => "pair",
            Self::Filtered => "filtered",
            Self::Captured => "captured",
            Self::Familiar => "familiar",
        }
    }
}

/// A running hook; its programs are attached as long as this lives.
struct Hook(Child);

impl Hook {
    fn attach(workspace: &Workspace, variant: Variant) -> Result<Self> {
        let program = workspace.binary(HOOK);
        let child = Command::new(&program)
            .arg(variant.name())
            .args(["--pid", &std::process::id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut hook = Self(child);
        let output = hook.0.stdout.take().context("the hook has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        if line.trim() != "ready" {
            bail!("{HOOK} {} did not get ready", variant.name());
        }
        Ok(hook)
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        if let Err(error) = self.0.wait() {
            eprintln!("{HOOK} cannot be waited for: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_added_time() {
        let ratios = added_ratios(&[100.0, 100.0], &[200.0, 100.0], &[280.0, 300.0]);
        assert_eq!(ratios, [1.8]);
    }

    #[test]
    fn figures_hold_every_variant_and_the_ratios() {
        let values = [
            vec![100.0; 3],
            vec![200.0; 3],
            vec![185.0; 3],
            vec![280.0; 3],
            vec![260.0; 3],
        ];
        let text: Vec<String> = figures(&values).iter().map(ToString::to_string).collect();
        assert_eq!(text.len(), 24);
        assert!(text.contains(
            &"capture.added.filtered: 0.85 × empty pair (goal ≤ 0.9 × empty pair, met)".to_owned()
        ));
    }
}
