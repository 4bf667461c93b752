//! Which values of profiles are farthest from what was learned.

use std::num::NonZeroUsize;

use anyhow::Context as _;
use safetensors::SafeTensors;
use stethos_bundle::{Bundle, PATTERN_FLOOR};
use stethos_patterns::{
    Vocabulary, Window,
    cluster::PatternIndex,
    profile::{Profile, ProfileBuilder},
};

const CACHE: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);
const INTERVAL_NS: u64 = 2_000_000_000;

/// The values of a run's profiles whose mean distance from the learned mean is greatest, in learned
/// standard deviations.
pub(crate) fn greatest(bundle: &Bundle, windows: &[Window]) -> anyhow::Result<Vec<(String, f64)>> {
    let tensors = SafeTensors::deserialize(&bundle.model)?;
    let values = |name: &str| -> anyhow::Result<Vec<f32>> {
        let tensor = tensors.tensor(name).context("no autoencoder")?;
        let (chunks, _) = tensor.data().as_chunks::<4>();
        Ok(chunks
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect())
    };
    let (mean, scale) = (values("vae.mean")?, values("vae.scale")?);
    let vocabulary = Vocabulary::new(bundle.vocabulary.iter().copied());
    let layout = bundle.profile_layout.clone();
    let arch = &bundle.card.arch;
    let mut builder = ProfileBuilder::new(layout.clone(), vocabulary.clone(), arch);
    let mut patterns = PatternIndex::new(&bundle.patterns, PATTERN_FLOOR, CACHE);
    let mut profiles: Vec<Profile> = Vec::new();
    let mut end_ns = windows.first().map_or(0, Window::start_ns) + INTERVAL_NS;
    for window in windows {
        if window.start_ns() >= end_ns {
            end_ns += INTERVAL_NS;
            profiles.push(builder.finish());
        }
        let pattern = patterns.nearest(&window.codes()).map(|(index, _)| index);
        builder.window(window, pattern);
    }
    profiles.retain(Profile::is_sufficient);
    let mut all: Vec<(String, f64)> = (0..mean.len())
        .map(|place| {
            let of = |profile: &Profile| profile.values[place] - mean[place];
            let sum: f32 = profiles.iter().map(of).sum();
            let distance = sum / profiles.len().max(1) as f32 / scale[place];
            (layout.name(place, arch, &vocabulary), f64::from(distance))
        })
        .collect();
    all.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
    all.truncate(8);
    Ok(all)
}
