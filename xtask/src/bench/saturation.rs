//! As many calls as the machine can make, under a capture whose ring is the usual one, and under one
//! whose ring is far too small for them, and a million a second: what is lost is known to the call.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::figure::{Figure, Goal};
use super::hook::{Hook, command, hook};
use super::rounds::{Spread, interleave};
use crate::lab::Lab;
use crate::workspace::Workspace;

const THREADS: u64 = 4;
/// Of each thread.
const CALLS: u64 = 2_000_000;
const POD: &str = "pod";
/// Of a sidecar as it is configured when nothing is said: 52 000 calls.
const USUAL_RING: u32 = 2 << 20;
/// 1 600 calls.
const SMALL_RING: u32 = 64 << 10;

/// Calls, and the capture that they come under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    Flood,
    FloodOfSmallRing,
    /// A million calls a second.
    Paced,
}

const VARIANTS: [Variant; 3] = [Variant::Flood, Variant::FloodOfSmallRing, Variant::Paced];

impl Variant {
    fn work(self) -> &'static str {
        match self {
            Self::Flood | Self::FloodOfSmallRing => "flood",
            Self::Paced => "paced",
        }
    }

    fn ring(self) -> u32 {
        match self {
            Self::FloodOfSmallRing => SMALL_RING,
            Self::Flood | Self::Paced => USUAL_RING,
        }
    }

    /// Names of the figures of what is lost, and of the calls' rate.
    fn figures(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Flood => ("lost", Some("rate")),
            Self::FloodOfSmallRing => ("lost_with_small_ring", None),
            Self::Paced => ("lost_when_paced", Some("paced_rate")),
        }
    }
}

/// One round.
#[derive(Debug, Clone, Copy)]
struct Round {
    seconds: f64,
    calls: Calls,
}

/// What became of the calls, as the reader knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Calls {
    seen: u64,
    delivered: u64,
    counted: u64,
    held: u64,
    lost: u64,
}

pub(super) fn run(workspace: &Workspace, rounds: u32) -> Result<Vec<Figure>> {
    let lab = Lab::new("stethos-bench")?;
    let measured = interleave(&VARIANTS, rounds, |variant| {
        measure(workspace, &lab, variant)
    })?;
    Ok(figures(&measured))
}

fn measure(workspace: &Workspace, lab: &Lab, variant: Variant) -> Result<Round> {
    let (threads, calls) = (THREADS.to_string(), CALLS.to_string());
    let mut flood = command(
        workspace,
        "known-calls",
        &[variant.work(), &threads, &calls],
    );
    let mut flood = Hook::start_in(lab, POD, &mut flood)?;
    let pod = lab.cgroup(POD).display().to_string();
    let ring = variant.ring().to_string();
    let capture = hook(workspace, &["saturated", "--cgroup", &pod, "--ring", &ring]);
    let capture = Hook::start(capture)?;
    let began = Instant::now();
    let answer = flood.ask()?;
    let seconds = began.elapsed().as_secs_f64();
    ensure!(answer == "done", "the calls were not made: {answer:?}");
    flood.finish()?;
    let said = capture.finish()?;
    let calls = said
        .lines()
        .find_map(Calls::parse)
        .with_context(|| format!("no account: {said:?}"))?;
    Ok(Round { seconds, calls })
}

/// `measured[v][r]`: of `VARIANTS[v]` in round `r`.
fn figures(measured: &[Vec<Round>]) -> Vec<Figure> {
    let made = THREADS * CALLS;
    let all = || measured.iter().flatten();
    let spread = |rounds: &[Round], of: fn(&Round) -> f64| {
        let values: Vec<f64> = rounds.iter().map(of).collect();
        Spread::of(&values)
    };
    let mut figures = Vec::new();
    for (variant, rounds) in VARIANTS.iter().zip(measured) {
        let (lost_name, rate_name) = variant.figures();
        if let Some(name) = rate_name {
            let rate = spread(rounds, |round| (THREADS * CALLS) as f64 / round.seconds);
            let name = format!("capture.saturation.{name}");
            let mut figure = Figure::new(name, rate.median, "calls/s");
            if *variant == Variant::Flood {
                figure = figure.goal(Goal::AtLeast(1_000_000.0));
            }
            figures.extend(figure.with_spread(&rate));
        }
        let lost = spread(rounds, |round| round.calls.lost_percent());
        let name = format!("capture.saturation.{lost_name}");
        figures.extend(Figure::new(name, lost.median, "%").with_spread(&lost));
    }
    let unaccounted = all().map(|round| round.calls.unaccounted().unsigned_abs());
    let unseen = all().map(|round| made.saturating_sub(round.calls.seen));
    for (name, worst) in [("unaccounted", unaccounted.max()), ("unseen", unseen.max())] {
        let name = format!("capture.saturation.{name}");
        let worst = worst.unwrap_or(0) as f64;
        figures.push(Figure::new(name, worst, "calls").goal(Goal::AtMost(0.0)));
    }
    figures
}

impl Calls {
    /// `seen N delivered N counted N held N lost N`
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |name: &str| -> Option<u64> {
            let pair = words.chunks_exact(2).find(|pair| pair[0] == name)?;
            pair[1].parse().ok()
        };
        Some(Self {
            seen: number("seen")?,
            delivered: number("delivered")?,
            counted: number("counted")?,
            held: number("held")?,
            lost: number("lost")?,
        })
    }

    /// Seen, and neither delivered nor counted nor held nor lost; below zero when one is in two.
    fn unaccounted(&self) -> i64 {
        let accounted = self.delivered + self.counted + self.held + self.lost;
        self.seen.cast_signed() - accounted.cast_signed()
    }

    fn lost_percent(&self) -> f64 {
        100.0 * self.lost as f64 / (self.seen as f64).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_call_too_few_or_too_many_misses_the_goal() {
        let line = "seen 8000100 delivered 4000000 counted 0 held 100 lost 4000000";
        let calls = Calls::parse(line).unwrap();
        assert_eq!(
            (calls.unaccounted(), calls.lost_percent().round()),
            (0, 50.0)
        );
        let text = |calls: Calls| {
            let seconds = 4.0;
            let figures = figures(&[vec![Round { seconds, calls }]]);
            let text: Vec<String> = figures.iter().map(ToString::to_string).collect();
            text.join("\n")
        };
        let good = text(calls);
        assert!(
            good.contains("rate: 2000000 calls/s (goal ≥ 1000000 calls/s, met)"),
            "{good}"
        );
        assert!(
            good.contains("unaccounted: 0.00 calls (goal ≤ 0 calls, met)"),
            "{good}"
        );
        for held in [99, 101] {
            let bad = text(Calls { held, ..calls });
            assert!(
                bad.contains("unaccounted: 1.00 calls (goal ≤ 0 calls, not met)"),
                "{bad}"
            );
        }
        let unseen = text(Calls {
            seen: 7_999_990,
            ..calls
        });
        assert!(
            unseen.contains("unseen: 10.0 calls (goal ≤ 0 calls, not met)"),
            "{unseen}"
        );
        assert_eq!(Calls::parse("seen 1 delivered x"), None);
    }
}
