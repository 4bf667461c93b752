//! The bundles in force: which plugin judges which container by which model.
//!
//! A container is judged by the first configured plugin that is meant for it, by name, image or the
//! application type that fits it best, or by the built-in one. A
//! plugin that fails costs the windows it was given. One that is quarantined, does not start or
//! does not take a model is replaced by the built-in one; where that fails too, the container is
//! diagnosed without models.

pub mod application;
mod builtin;
mod strays;
mod watched;

use std::{collections::BTreeMap, num::NonZeroUsize, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use stethos_bundle::{Bundle, PATTERN_FLOOR};
use stethos_patterns::{
    Token, Vocabulary, Window, cluster::PatternIndex, profile::ProfileBuilder, usage::Usage,
};

use crate::{
    config::{PluginEntry, PluginSelector, PluginsConfig},
    diagnosis::observation::{JudgedWindow, Stray},
    export::PluginIdentity,
    plugin::{HostConfig, Plugin, PluginHost},
    record::{ContainerIndex, CountedKind, Nanos, Record},
};
use application::{Asked, Fit};
use builtin::{Builtin, compile_beside};
use strays::Strays;
use watched::{Serving, Watched};

/// Distinct windows whose pattern is remembered, per container.
const PATTERN_CACHE: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);

/// Plugins, and the model of every container that has one.
pub struct Models {
    /// In the order of the configuration; without a plugin where it does not start.
    configured: Vec<(PluginEntry, Option<Plugin>)>,
    builtin: Builtin,
    asked: Asked,
    watched: BTreeMap<ContainerIndex, Watched>,
    cache: Option<PathBuf>,
    /// Calls are only counted now.
    reduced: bool,
}

/// The autoencoder's view of one container's last interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Stability {
    pub container: ContainerIndex,
    pub at_ns: Nanos,
    pub stability: f64,
    pub latent: Vec<f32>,
    /// By what it differs from the learned ones, the furthest first.
    pub strays: Vec<Stray>,
}

impl Models {
    /// Starts the configured plugins. `cache`: where compiled ones are kept.
    pub fn new(config: &PluginsConfig, cache: PathBuf) -> anyhow::Result<Self> {
        Self::start(config, Some(cache), HostConfig::default())
    }

    /// Like [`Models::new`], for recordings: a plugin that fails is tried again at once, because
    /// recorded time has no waits. Without a `cache`, plugins are compiled anew.
    pub fn for_replay(config: &PluginsConfig, cache: Option<PathBuf>) -> anyhow::Result<Self> {
        let host = HostConfig {
            backoff: Duration::ZERO,
            ..HostConfig::default()
        };
        Self::start(config, cache, host)
    }

    fn start(
        config: &PluginsConfig,
        cache: Option<PathBuf>,
        host: HostConfig,
    ) -> anyhow::Result<Self> {
        let host = PluginHost::new(HostConfig {
            memory: usize::try_from(config.memory.bytes()).unwrap_or(usize::MAX),
            deadline: config.deadline,
            compiled: cache.clone(),
            ..host
        })?;
        let mut configured = Vec::new();
        for entry in &config.load {
            let name = entry.file.display().to_string();
            let bytes = std::fs::read(&entry.file).with_context(|| format!("plugin {name}"))?;
            compile_beside(&host, &bytes, Some(&entry.file), cache.as_deref());
            let plugin = match host.load(&name, &bytes) {
                Ok(plugin) => Some(plugin),
                Err(error) if error.is_misbehaviour() => {
                    tracing::error!(%error, "plugin does not start; the built-in one serves");
                    None
                }
                Err(error) => return Err(error.into()),
            };
            configured.push((entry.clone(), plugin));
        }
        let host = Arc::new(host);
        Ok(Self {
            configured,
            asked: Asked::new(host.clone()),
            builtin: Builtin::Waiting(host),
            watched: BTreeMap::new(),
            cache,
            reduced: false,
        })
    }

    /// Begins to start the built-in plugin. Call it on a tokio runtime, and once the capture runs:
    /// the process that compiles is then known as the sidecar's own.
    pub fn begin(&mut self) {
        self.builtin.begin(self.cache.clone());
    }

    /// From now on windows of `container` are judged by `bundle`. `name` and `image` decide which
    /// plugin serves it. An error means: by no plugin.
    pub async fn watch(
        &mut self,
        container: ContainerIndex,
        name: &str,
        image: Option<&str>,
        bundle: &Bundle,
        model_id: &str,
    ) -> anyhow::Result<()> {
        let model = Arc::from(bundle.model.as_slice());
        // What it has had compiled are all built-in plugins: those that are asked start at once.
        self.builtin.settle().await;
        let fits = self.fits(&bundle.usage).await;
        let application_type = application::best(&fits).to_owned();
        tracing::debug!(
            container = name,
            application_type,
            ?fits,
            "application types"
        );
        let served = self.serve(name, image, &application_type, &model).await;
        let (serving, result) = match served {
            Ok(serving) => (Some(serving), Ok(())),
            Err(error) => (None, Err(error)),
        };
        let vocabulary = Vocabulary::new(bundle.vocabulary.iter().copied());
        let layout = bundle.profile_layout.clone();
        let mut profile = ProfileBuilder::new(layout, vocabulary.clone(), &bundle.card.arch);
        profile.reduce(self.reduced);
        let watched = Watched {
            name: name.to_owned(),
            application_type,
            serving,
            model,
            model_id: model_id.to_owned(),
            patterns: PatternIndex::new(&bundle.patterns, PATTERN_FLOOR, PATTERN_CACHE),
            thresholds: bundle.thresholds.clone(),
            profile,
            vocabulary,
            profile_calls: 0,
            profile_since_ns: 0,
            strays: Strays::new(bundle),
        };
        let old = self.watched.insert(container, watched);
        if let Some(old) = old.and_then(|old| old.serving) {
            let _ = old.plugin.unload_model(old.model).await;
        }
        result
    }

    /// How well the application type of every plugin fits, best first.
    pub async fn fits(&self, usage: &Usage) -> Vec<Fit> {
        let configured = self.configured.iter();
        let configured = configured.filter_map(|(_, plugin)| plugin.as_ref());
        self.asked.fits(usage, configured).await
    }

    async fn serve(
        &mut self,
        container: &str,
        image: Option<&str>,
        application_type: &str,
        model: &Arc<[u8]>,
    ) -> anyhow::Result<Serving> {
        let configured = self
            .configured
            .iter()
            .find(|(entry, plugin)| {
                let judges = |plugin: &Plugin| plugin.description().models;
                serves(&entry.serves, container, image, application_type)
                    && plugin.as_ref().is_none_or(judges)
            })
            .and_then(|(_, plugin)| plugin.clone());
        if let Some(plugin) = configured {
            match plugin.load_model(model.clone()).await {
                Ok(loaded) => {
                    return Ok(Serving {
                        plugin,
                        model: loaded.id,
                        builtin: false,
                    });
                }
                Err(error) => {
                    tracing::error!(%error, container, "model not taken; the built-in plugin serves");
                }
            }
        }
        self.builtin.serve(model.clone()).await
    }

    /// Name and version of the plugin that judges a container, and the model's id.
    pub fn identity(&self, container: ContainerIndex) -> Option<(PluginIdentity, String)> {
        let watched = self.watched.get(&container)?;
        let about = watched.serving.as_ref()?.plugin.description();
        let identity = PluginIdentity {
            name: about.name.clone(),
            version: about.version.clone(),
        };
        Some((identity, watched.model_id.clone()))
    }

    /// The application type of a container that has models.
    pub fn application_type(&self, container: ContainerIndex) -> Option<&str> {
        let watched = self.watched.get(&container)?;
        Some(&watched.application_type)
    }

    /// By what a container's last profile differs from the learned ones.
    pub fn strays(&self, container: ContainerIndex) -> &[Stray] {
        let watched = self.watched.get(&container);
        watched.map_or(&[], |watched| &watched.strays.last)
    }

    /// The plugins, for their counters.
    pub fn plugins(&self) -> impl Iterator<Item = &Plugin> {
        self.configured
            .iter()
            .filter_map(|(_, plugin)| plugin.as_ref())
            .chain(self.builtin.started())
    }

    /// Takes what was counted, and what was not while calls are only counted.
    pub fn on_record(&mut self, record: &Record) {
        match record {
            Record::Reduced(reduced) => {
                self.reduced = reduced.sample != 0;
                for watched in self.watched.values_mut() {
                    watched.profile.reduce(self.reduced);
                    watched.profile_calls = 0;
                }
            }
            Record::Counts(counts) => {
                for row in &counts.rows {
                    if let CountedKind::Call(token) = row.kind {
                        self.count(counts.container, token, row.count);
                    }
                }
            }
            Record::Window(window) if self.reduced => {
                for call in window.calls.iter().filter(|call| !call.counted) {
                    self.count(window.container, Token::new(call.nr, call.ret), 1);
                }
            }
            _ => {}
        }
    }

    fn count(&mut self, container: ContainerIndex, token: Token, calls: u64) {
        if let Some(watched) = self.watched.get_mut(&container) {
            watched.profile_calls += watched.profile.count(token, calls);
        }
    }

    /// Windows with their patterns and verdicts, in the order given. A window of a container
    /// without a model, or whose plugin failed, has no verdict.
    pub async fn judge(&mut self, windows: Vec<Window>) -> Vec<JudgedWindow> {
        let mut judged: Vec<JudgedWindow> = windows
            .into_iter()
            .map(|window| {
                let watched = self.watched.get_mut(&window.container);
                let pattern = watched.and_then(|watched| watched.take(&window));
                JudgedWindow {
                    window,
                    pattern,
                    verdict: None,
                }
            })
            .collect();
        for (container, watched) in &mut self.watched {
            let mine: Vec<usize> = (0..judged.len())
                .filter(|index| judged[*index].window.container == *container)
                .collect();
            if mine.is_empty() {
                continue;
            }
            let verdicts =
                watched.score(&mut self.builtin, mine.iter().map(|index| &judged[*index]));
            let verdicts = verdicts.await.unwrap_or_default();
            for (index, verdict) in mine.into_iter().zip(verdicts) {
                judged[index].verdict = Some(verdict);
            }
        }
        judged
    }

    /// Assesses the profiles that are complete at `now_ns`.
    pub async fn assess(&mut self, now_ns: Nanos) -> Vec<Stability> {
        let mut all = Vec::new();
        for (container, watched) in &mut self.watched {
            let Some(profile) = watched.profile_due(now_ns) else {
                continue;
            };
            let layout = watched.profile.layout();
            let strays = &mut watched.strays;
            strays.take(&profile.values, layout, &watched.vocabulary);
            if let Some(assessment) = watched.assess(&mut self.builtin, profile.values).await {
                let error = f64::from(assessment.reconstruction_error);
                all.push(Stability {
                    container: *container,
                    at_ns: now_ns,
                    stability: watched.thresholds.stability(error),
                    latent: assessment.latent,
                    strays: watched.strays.last.clone(),
                });
            }
        }
        all
    }
}

/// Whether a plugin is meant for a container with this name, image and application type.
fn serves(
    selector: &PluginSelector,
    container: &str,
    image: Option<&str>,
    application_type: &str,
) -> bool {
    let named = |wanted: &str| container == wanted;
    // Docker Hub's images are mostly written without where they come from.
    let made_of = |wanted: &str| {
        let hub = |prefix| image.and_then(|image| image.strip_prefix(prefix));
        [image, hub("docker.io/"), hub("docker.io/library/")]
            .iter()
            .flatten()
            .any(|image| image.starts_with(wanted))
    };
    selector.container.as_deref().is_none_or(named)
        && selector.image.as_deref().is_none_or(made_of)
        && selector
            .application
            .as_deref()
            .is_none_or(|wanted| wanted == application_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_serves_containers_by_name_and_by_the_start_of_their_image() {
        let selector = |container: Option<&str>, image: Option<&str>| PluginSelector {
            container: container.map(str::to_owned),
            image: image.map(str::to_owned),
            application: None,
        };
        let serves = |selector: &PluginSelector, container: &str, image: Option<&str>| {
            serves(selector, container, image, "http-server")
        };
        let nginx = Some("docker.io/library/nginx:1.27");
        for (image, fits) in [
            ("nginx", true),
            ("nginx:1.27", true),
            ("library/nginx", true),
            ("docker.io/library/ng", true),
            ("nginx:1.28", false),
            ("localhost/nginx", false),
        ] {
            let found = serves(&selector(None, Some(image)), "web", nginx);
            assert_eq!(found, fits, "{image}");
        }
        assert!(serves(&selector(None, None), "web", None));
        assert!(!serves(&selector(None, Some("nginx")), "nginx", None));
        assert!(serves(&selector(Some("web"), Some("nginx")), "web", nginx));
        assert!(!serves(&selector(Some("api"), Some("nginx")), "web", nginx));
        let of_type = |wanted: &str| PluginSelector {
            application: Some(wanted.to_owned()),
            ..selector(None, None)
        };
        assert!(serves(&of_type("http-server"), "web", None));
        assert!(!serves(&of_type("jvm"), "web", None));
    }
}
