//! What a system call costs under capture, in multiples of what an empty `sys_enter` +
//! `sys_exit` pair of programs adds: the floor that no tracepoint tool goes under.

use anyhow::Result;

use super::figure::{Figure, Goal};
use super::hook::{CALLS, Hook, calls, hook};
use super::processors::{Processor, pin};
use super::rounds::{Spread, interleave};
use crate::workspace::Workspace;

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
    // A reader of events has the other processors.
    let mut program = calls(workspace, CALLS, "getppid");
    pin(&mut program, Processor::Highest)?;
    let mut caller = Hook::start(program)?;
    let values = interleave(&VARIANTS, rounds, |variant| {
        measure(workspace, &mut caller, variant)
    })?;
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
pub(super) fn added_ratios(none: &[f64], pair: &[f64], variant: &[f64]) -> Vec<f64> {
    none.iter()
        .zip(pair)
        .zip(variant)
        .filter(|((none, pair), _)| pair > none)
        .map(|((none, pair), value)| (value - none) / (pair - none))
        .collect()
}

/// Nanoseconds that a call of `caller` takes.
fn measure(workspace: &Workspace, caller: &mut Hook, variant: Variant) -> Result<f64> {
    let pid = caller.id().to_string();
    let _attached = match variant {
        Variant::None => None,
        _ => Some(Hook::start(hook(
            workspace,
            &[variant.name(), "--pid", &pid],
        ))?),
    };
    caller.nanoseconds()
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
