//! Which values of profiles are farthest from what was learned.

use std::num::NonZeroUsize;

use anyhow::Context as _;
use stethos_bundle::{Bundle, PATTERN_FLOOR};
use stethos_patterns::{
    Vocabulary, Window,
    cluster::PatternIndex,
    profile::{Profile, ProfileBuilder},
};

const CACHE: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);
const INTERVAL_NS: u64 = 2_000_000_000;
/// So many are told.
const GREATEST: usize = 8;

/// The values of a run's profiles whose mean distance from the learned mean is greatest, in learned
/// standard deviations.
pub(crate) fn greatest(bundle: &Bundle, windows: &[Window]) -> anyhow::Result<Vec<(String, f64)>> {
    let standard = bundle.standard_profile().context("no autoencoder")?;
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
    if profiles.is_empty() {
        return Ok(Vec::new());
    }
    let mean = |place: usize| {
        let sum: f32 = profiles.iter().map(|profile| profile.values[place]).sum();
        sum / profiles.len() as f32
    };
    let means: Vec<f32> = (0..layout.dimension()).map(mean).collect();
    let furthest = standard.furthest(&means).into_iter().take(GREATEST);
    let named = furthest.map(|(place, distance)| {
        let name = layout.name(place, arch, &vocabulary);
        (name, f64::from(distance))
    });
    Ok(named.collect())
}
