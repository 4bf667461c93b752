//! The GRU with other settings: what each of them is worth.

use stethos::learning::training_set;
use stethos_patterns::Window;
use stethos_trainer::TrainConfig;

use super::{Label, Measured, RATES, auc, limit, share_above, train};
use crate::{judge::Judge, metrics::distinct_by};

fn settings() -> Vec<(&'static str, TrainConfig)> {
    let with = |change: fn(&mut TrainConfig)| {
        let mut config = TrainConfig::default();
        change(&mut config);
        config
    };
    vec![
        ("default", TrainConfig::default()),
        ("no_followers", with(|config| config.followers = false)),
        ("no_patterns", with(|config| config.conditioned = false)),
        (
            "neither",
            with(|config| {
                config.followers = false;
                config.conditioned = false;
            }),
        ),
        ("temper_1", with(|config| config.temper = 1.0)),
        ("temper_0.5", with(|config| config.temper = 0.5)),
        ("spread_0.1", with(|config| config.spread = 0.1)),
        ("spread_0.9", with(|config| config.spread = 0.9)),
        ("steps_1200", with(|config| config.steps = 1200)),
        ("steps_4800", with(|config| config.steps = 4800)),
        ("hidden_32", with(|config| config.hidden = 32)),
        ("hidden_80", with(|config| config.hidden = 80)),
    ]
}

/// Figures of distinct windows.
pub(super) fn measure(
    learned: &Label,
    normal: &Label,
    faults: &[&Label],
) -> anyhow::Result<Measured> {
    let set = training_set::read(std::slice::from_ref(&learned.file), None)?;
    let normal = distinct(normal.read()?.windows.iter());
    let mut faulty = Vec::new();
    for fault in faults {
        faulty.extend(distinct(fault.read()?.faulty()));
    }
    let mut figures = Measured::new();
    for (name, config) in settings() {
        let bundle = train(&set, set.windows.clone(), &config)?;
        let mut judge = Judge::new(&bundle)?;
        let (normal, faulty) = (judge.scores(&normal)?, judge.scores(&faulty)?);
        let bits = bundle.card.loss / std::f64::consts::LN_2;
        figures.push((format!("variant.{name}.bits"), Some(bits)));
        figures.push((format!("variant.{name}.auc"), auc(&normal, &faulty)));
        for (rate, figure) in RATES {
            let found = limit(&normal, rate).and_then(|limit| share_above(&faulty, limit));
            figures.push((format!("variant.{name}.{figure}"), found));
        }
    }
    Ok(figures)
}

fn distinct<'a>(windows: impl Iterator<Item = &'a Window>) -> Vec<Window> {
    let windows = windows.filter(|window| !window.calls.is_empty());
    let distinct = distinct_by(windows, |window| window.codes());
    distinct.into_iter().cloned().collect()
}
