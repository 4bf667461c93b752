//! What is in force for one container.

use std::{sync::Arc, time::Duration};

use stethos_bundle::Thresholds;
use stethos_patterns::{
    Vocabulary, Window,
    cluster::PatternIndex,
    profile::{Profile, ProfileBuilder},
};

use super::{builtin::Builtin, strays::Strays};
use crate::{
    diagnosis::{observation::JudgedWindow, verdict::Verdict},
    plugin::{Assessment, ModelId, Plugin, PluginError, TokenWindow},
    record::Nanos,
};

/// A profile covers at least this long, and enough calls to be judged.
const PROFILE_NS: u64 = 2_000_000_000;
const PROFILE_CALLS: u64 = Profile::MIN_CALLS * 2;

pub(super) struct Watched {
    pub(super) name: String,
    pub(super) application_type: String,
    /// None when no plugin is left that takes the model.
    pub(super) serving: Option<Serving>,
    pub(super) model: Arc<[u8]>,
    pub(super) model_id: String,
    pub(super) vocabulary: Vocabulary,
    pub(super) patterns: PatternIndex,
    pub(super) thresholds: Thresholds,
    pub(super) profile: ProfileBuilder,
    pub(super) profile_calls: u64,
    pub(super) profile_since_ns: Nanos,
    pub(super) strays: Strays,
}

/// A plugin with the model of one container.
pub(super) struct Serving {
    pub(super) plugin: Plugin,
    pub(super) model: ModelId,
    pub(super) builtin: bool,
}

impl Watched {
    /// Finds the window's pattern and adds the window to the profile.
    pub(super) fn take(&mut self, window: &Window) -> Option<u32> {
        let pattern = self
            .patterns
            .nearest(&window.codes())
            .map(|(index, _)| index);
        if window.whole {
            self.profile.window(window, pattern);
            self.profile_calls += window.calls.len() as u64;
        }
        pattern.and_then(|index| u32::try_from(index).ok())
    }

    fn tokens(&self, judged: &JudgedWindow) -> TokenWindow {
        let calls = judged.window.calls.iter();
        TokenWindow {
            pattern: judged.pattern,
            tokens: calls.map(|call| self.vocabulary.id(&call.token)).collect(),
        }
    }

    pub(super) fn profile_due(&mut self, now_ns: Nanos) -> Option<Profile> {
        let lasted = Duration::from_nanos(now_ns.saturating_sub(self.profile_since_ns));
        if self.profile_calls < PROFILE_CALLS || lasted < Duration::from_nanos(PROFILE_NS) {
            return None;
        }
        self.profile_calls = 0;
        self.profile_since_ns = now_ns;
        let profile = self.profile.finish();
        profile.is_sufficient().then_some(profile)
    }

    /// One verdict a window; none where the plugin fails.
    pub(super) async fn score(
        &mut self,
        builtin: &mut Builtin,
        windows: impl Iterator<Item = &JudgedWindow> + Clone,
    ) -> Option<Vec<Verdict>> {
        loop {
            let serving = self.serving.as_ref()?;
            let asked = windows.clone().map(|window| self.tokens(window)).collect();
            match serving.plugin.score(serving.model, asked).await {
                Ok(verdicts) => return Some(verdicts),
                Err(error) if error.is_final() => self.replace(builtin, &error).await,
                Err(error) => {
                    tracing::debug!(%error, "windows stay without a verdict");
                    return None;
                }
            }
        }
    }

    pub(super) async fn assess(
        &mut self,
        builtin: &mut Builtin,
        profile: Vec<f32>,
    ) -> Option<Assessment> {
        let serving = self.serving.as_ref()?;
        match serving.plugin.assess(serving.model, vec![profile]).await {
            Ok(assessments) => return assessments.into_iter().next(),
            Err(error) if error.is_final() => self.replace(builtin, &error).await,
            Err(error) => tracing::debug!(%error, "stability was not assessed"),
        }
        None
    }

    /// Puts the built-in plugin in the place of one that has failed for good.
    async fn replace(&mut self, builtin: &mut Builtin, error: &PluginError) {
        let container = &self.name;
        let failed = self.serving.take();
        if failed.is_some_and(|failed| failed.builtin) {
            tracing::error!(%error, container, "diagnosis goes on without models");
            return;
        }
        match builtin.serve(self.model.clone()).await {
            Ok(serving) => {
                tracing::error!(%error, container, "the built-in plugin takes over");
                self.serving = Some(serving);
            }
            Err(builtin) => {
                tracing::error!(%error, %builtin, container, "diagnosis goes on without models");
            }
        }
    }
}
