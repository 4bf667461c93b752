//! By what a profile differs from the learned ones.

use stethos_bundle::{Bundle, StandardProfile};
use stethos_patterns::{Vocabulary, profile::ProfileLayout};

use crate::diagnosis::observation::Stray;

/// So many are told.
const TOLD: usize = 8;
/// A value this many standard deviations from its mean strays.
const FAR: f32 = 2.0;

/// Names what strays.
#[derive(Debug, Default)]
pub(super) struct Strays {
    standard: StandardProfile,
    arch: String,
    /// Of the last interval.
    pub(super) last: Vec<Stray>,
}

impl Strays {
    pub(super) fn new(bundle: &Bundle) -> Self {
        Self {
            standard: bundle.standard_profile().unwrap_or_default(),
            arch: bundle.card.arch.clone(),
            last: Vec::new(),
        }
    }

    /// Takes an interval's profile. What strays most comes first.
    pub(super) fn take(&mut self, values: &[f32], layout: &ProfileLayout, vocabulary: &Vocabulary) {
        let furthest = self.standard.furthest(values).into_iter();
        let far = furthest.filter(|(_, distance)| distance.abs() >= FAR);
        let strays = far.map(|(place, deviations)| Stray {
            name: layout.name(place, &self.arch, vocabulary),
            deviations,
            success: layout.is_success(place, vocabulary),
        });
        self.last = strays.take(TOLD).collect();
    }
}
