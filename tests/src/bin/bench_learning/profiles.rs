//! What the autoencoder says of normal time under more and under less load than was learned, and of
//! faults.

use std::path::Path;

use anyhow::Context as _;
use stethos_bundle::Bundle;

use crate::{
    corpus::{Label, labels},
    deviations,
    figures::Figures,
    judge::Judge,
    metrics::{auc, share_above},
    training::train,
};

/// Below this, a container does not run as learned.
const UNSTABLE: f64 = 0.5;

pub(crate) fn run(folder: &Path) -> anyhow::Result<Figures> {
    let labels = labels(folder)?;
    let mut figures = Figures::default();
    for label in labels.iter().filter(|label| label.run == "train") {
        let product = &label.product;
        let (bundle, cost) = train(&label.file, &[]).context(product.clone())?;
        for (name, value, unit) in cost.figures() {
            figures.add(&format!("learning.{product}.training.{name}"), value, unit);
        }
        let others = labels
            .iter()
            .filter(|other| other.product == *product && other.run != "train");
        measure(&mut figures, &bundle, others)?;
    }
    Ok(figures)
}

fn measure<'a>(
    figures: &mut Figures,
    bundle: &Bundle,
    others: impl Iterator<Item = &'a Label>,
) -> anyhow::Result<()> {
    let (mut normal, mut faulty) = (Vec::new(), Vec::new());
    let mut product = String::new();
    for other in others {
        product.clone_from(&other.product);
        let recorded = other.read()?;
        // A model that has seen nothing else, as after a start.
        let assessed = Judge::new(bundle)?.stability(&recorded.windows);
        let onset_ns = recorded.onset_ns.unwrap_or(0);
        let later = assessed.iter().filter(|(at_ns, _)| *at_ns >= onset_ns);
        let strange: Vec<f64> = later.map(|(_, stability)| -stability).collect();
        let name = format!("learning.{product}.stability.{}", other.run);
        let unstable = share_above(&strange, -UNSTABLE);
        figures.add(&format!("{name}.unstable"), unstable, "of intervals");
        figures.add(&format!("{name}.intervals"), strange.len() as f64, "");
        let windows: Vec<_> = match recorded.onset_ns {
            None => recorded.windows.clone(),
            Some(_) => recorded.faulty().cloned().collect(),
        };
        for (value, distance) in deviations::greatest(bundle, &windows)? {
            eprintln!("{product}, {}: {distance:7.1} {value}", other.run);
        }
        match recorded.onset_ns {
            None => normal.extend(strange),
            Some(_) => faulty.extend(strange),
        }
    }
    let name = format!("learning.{product}.stability.auc");
    figures.add(&name, auc(&normal, &faulty), "");
    Ok(())
}
