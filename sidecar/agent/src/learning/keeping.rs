//! What was learned and could not be written to disk yet.

use super::{Learning, RETRY_NS};

pub(super) struct Unkept {
    pub(super) bundle: Vec<u8>,
    /// It was said that it could not be written.
    told: bool,
}

impl Unkept {
    pub(super) fn new(bundle: Vec<u8>) -> Self {
        Self {
            bundle,
            told: false,
        }
    }
}

impl Learning {
    /// Writes bundles to disk that are not there yet.
    pub(super) fn keep(&mut self) {
        self.keep_at_ns = self.now_ns + RETRY_NS;
        self.keep_late();
        let store = &self.store;
        self.unkept
            .retain(|key, unkept| match store.save(key, &unkept.bundle) {
                Ok(()) => {
                    if unkept.told {
                        tracing::info!(bundle = %key, "the learned models are kept now");
                    }
                    false
                }
                Err(error) => {
                    if !unkept.told {
                        tracing::warn!(%error, "learned models are in force but not kept yet");
                    }
                    unkept.told = true;
                    true
                }
            });
    }
}
