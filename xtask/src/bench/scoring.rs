//! What scoring costs: the guest beside ONNX Runtime with the same weights and windows, how far their
//! scores are apart, and how many windows of real servers need no scoring because they came before.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::figure::{Figure, Goal};
use super::learning::{self, LearningOptions};
use super::plugin;
use super::processors::{Processor, pin};
use super::rounds::{Spread, interleave};
use crate::workspace::Workspace;

/// Builds the graph and times it, and prints `windows_per_second.WAY VALUE`.
const PEER: &str = include_str!("scoring/peer.py");
const PEER_NAME: &str = "peer.py";
/// How windows are handed over: as the guest gets them, and one at a time.
const WAYS: [&str; 2] = ["batches", "alone"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    Guest,
    Native,
    Onnx,
}

const VARIANTS: [Variant; 3] = [Variant::Guest, Variant::Native, Variant::Onnx];

/// `python`: an interpreter that has ONNX Runtime.
pub(super) fn run(
    workspace: &Workspace,
    python: Option<&Path>,
    rounds: u32,
    options: &LearningOptions,
) -> Result<Vec<Figure>> {
    let python = python.context("ONNX Runtime was not set up")?;
    let mut figures = speed(workspace, python, rounds)?;
    figures.extend(differences(workspace)?);
    figures.extend(learning::cached(workspace, options)?);
    Ok(figures)
}

/// Where the model, the windows and the scores of all sides lie.
fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("scoring")
}

fn speed(workspace: &Workspace, python: &Path, rounds: u32) -> Result<Vec<Figure>> {
    let folder = folder(workspace);
    plugin::run_part(workspace, "sample", &folder)?;
    let peer = folder.join(PEER_NAME);
    fs::write(&peer, PEER).with_context(|| peer.display().to_string())?;
    // Compiles the component, and scores what is compared; both are not timed.
    for part in ["guest", "trainer"] {
        plugin::run_part(workspace, part, &folder)?;
    }
    let measured = interleave(&VARIANTS, rounds, |variant| match variant {
        Variant::Guest => Ok(vec![plugin::measure(workspace, "guest", &folder)?]),
        Variant::Native => Ok(vec![plugin::measure(workspace, "native", &folder)?]),
        Variant::Onnx => onnx(python, &peer, &folder),
    })?;
    let micros = |rounds: &[Vec<f64>], way: usize| -> Vec<f64> {
        rounds.iter().map(|round| 1e6 / round[way]).collect()
    };
    let [guest, native, peers] = &measured[..] else {
        return Ok(Vec::new());
    };
    let (guest, native) = (micros(guest, 0), micros(native, 0));
    let mut figures = Vec::new();
    let mut add = |name: &str, values: &[f64], unit: &'static str, goal: Option<Goal>| {
        let spread = Spread::of(values);
        let figure = Figure::new(format!("plugin.gru.{name}"), spread.median, unit);
        let figure = match goal {
            Some(goal) => figure.goal(goal),
            None => figure,
        };
        figures.extend(figure.with_spread(&spread));
        spread.median
    };
    add("guest", &guest, "µs/window", None);
    add("native", &native, "µs/window", None);
    let peers: Vec<Vec<f64>> = (0..WAYS.len()).map(|way| micros(peers, way)).collect();
    let mut fastest = &peers[0];
    let mut least = f64::INFINITY;
    for (way, values) in WAYS.iter().zip(&peers) {
        let median = add(&format!("onnx.{way}"), values, "µs/window", None);
        if median < least {
            (least, fastest) = (median, values);
        }
    }
    let ratios = |values: &[f64]| -> Vec<f64> {
        let rounds = values.iter().zip(fastest);
        rounds.map(|(ours, theirs)| ours / theirs).collect()
    };
    let goal = Some(Goal::AtMost(3.0));
    add("guest_to_onnx", &ratios(&guest), "×", goal);
    add("native_to_onnx", &ratios(&native), "×", None);
    Ok(figures)
}

/// Windows a second in each of `WAYS`.
fn onnx(python: &Path, peer: &Path, folder: &Path) -> Result<Vec<f64>> {
    let mut command = Command::new(python);
    command.arg(peer).arg(folder);
    pin(&mut command, Processor::Highest)?;
    let text = plugin::output(PEER_NAME, &mut command)?;
    let ways = WAYS.iter().map(|way| {
        plugin::value(&text, &format!("windows_per_second.{way}"))
            .with_context(|| format!("{PEER_NAME} printed no windows_per_second.{way}"))
    });
    ways.collect()
}

/// How far the others' scores of the same windows are from the guest's.
fn differences(workspace: &Workspace) -> Result<Vec<Figure>> {
    let folder = folder(workspace);
    let read = |name: String| fs::read(folder.join(&name)).with_context(|| name.clone());
    let guest = surprises(&read("guest.surprise".to_owned())?);
    let mut figures = Vec::new();
    for other in ["native", "onnx", "trainer"] {
        let scores = surprises(&read(format!("{other}.surprise"))?);
        ensure!(scores.len() == guest.len(), "{other} scored other windows");
        let apart = guest.iter().zip(&scores).map(|(a, b)| (a - b).abs());
        let name = format!("plugin.gru.guest_to_{other}.difference");
        let largest = apart.fold(0.0, f32::max);
        figures.push(Figure::new(name, f64::from(largest) * 1e6, "µnat"));
    }
    let (guest, onnx) = (
        read("guest.expected".to_owned())?,
        read("onnx.expected".to_owned())?,
    );
    ensure!(onnx.len() == guest.len(), "onnx scored other windows");
    let ids = guest.chunks_exact(2).zip(onnx.chunks_exact(2));
    let others = ids.filter(|(a, b)| a != b).count();
    let name = "plugin.gru.guest_to_onnx.other_expected";
    figures.push(Figure::new(name, others as f64, "tokens"));
    Ok(figures)
}

fn surprises(bytes: &[u8]) -> Vec<f32> {
    let (values, _) = bytes.as_chunks();
    values.iter().map(|one| f32::from_le_bytes(*one)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surprises_are_little_endian() {
        assert_eq!(surprises(&[0, 0, 128, 63, 0, 0, 0, 192, 1]), [1.0f32, -2.0]);
    }
}
