//! Whether the parts of a bundle fit each other.

use safetensors::{Dtype, SafeTensors};

use crate::Bundle;

/// A part and what is wrong with it.
pub(crate) struct Misfit {
    pub(crate) part: &'static str,
    pub(crate) reason: String,
}

fn misfit(part: &'static str, reason: impl Into<String>) -> Misfit {
    Misfit {
        part,
        reason: reason.into(),
    }
}

pub(crate) fn check(bundle: &Bundle) -> Result<(), Misfit> {
    let ids = bundle.vocabulary.len() + 2;
    if ids > usize::from(u16::MAX) {
        return Err(misfit(
            "vocabulary",
            format!("{ids} ids do not fit 16 bits"),
        ));
    }
    let mut tokens = bundle.vocabulary.clone();
    tokens.sort_unstable();
    if let Some(pair) = tokens.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(misfit(
            "vocabulary",
            format!("token {:?} is there twice", pair[0]),
        ));
    }
    thresholds(bundle)?;
    model(bundle, ids)
}

fn thresholds(bundle: &Bundle) -> Result<(), Misfit> {
    let limits = &bundle.thresholds;
    let expected = bundle.patterns.len() + 1;
    if limits.patterns.len() != expected {
        let reason = format!(
            "{} window limits, expected {expected}",
            limits.patterns.len()
        );
        return Err(misfit("thresholds", reason));
    }
    let others = [
        limits.false_alarm_rate,
        limits.reconstruction_median,
        limits.reconstruction_limit,
    ];
    if let Some(bad) = limits
        .patterns
        .iter()
        .chain(&others)
        .find(|x| !x.is_finite())
    {
        return Err(misfit("thresholds", format!("{bad} is not a number")));
    }
    Ok(())
}

fn model(bundle: &Bundle, ids: usize) -> Result<(), Misfit> {
    let tensors =
        SafeTensors::deserialize(&bundle.model).map_err(|e| misfit("model", e.to_string()))?;
    for (name, view) in tensors.tensors() {
        if view.dtype() != Dtype::F32 {
            return Err(misfit(
                "model",
                format!("tensor {name} is {:?}, not F32", view.dtype()),
            ));
        }
    }
    for (name, rows) in [("gru.embed", ids), ("gru.h0", bundle.patterns.len() + 1)] {
        let Ok(view) = tensors.tensor(name) else {
            return Err(misfit("model", format!("tensor {name} is missing")));
        };
        if view.shape().first() != Some(&rows) {
            let reason = format!("tensor {name} is {:?}, expected {rows} rows", view.shape());
            return Err(misfit("model", reason));
        }
    }
    Ok(())
}
