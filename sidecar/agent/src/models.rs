//! The bundles in force: which plugin judges which container by which model.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use stethos_bundle::{Bundle, PATTERN_FLOOR, Thresholds};
use stethos_patterns::{
    Vocabulary, Window,
    cluster::PatternIndex,
    profile::{Profile, ProfileBuilder},
};
use tokio::task::JoinHandle;

use crate::{
    config::{PluginEntry, PluginsConfig},
    diagnosis::observation::JudgedWindow,
    export::PluginIdentity,
    plugin::{
        GENERIC_COMPONENT, HostConfig, ModelId, Plugin, PluginError, PluginHost, TokenWindow,
    },
    record::{ContainerIndex, Nanos},
};

/// Distinct windows whose pattern is remembered, per container.
const PATTERN_CACHE: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);
/// A profile covers at least this long, and enough calls to be judged.
const PROFILE_NS: u64 = 2_000_000_000;
const PROFILE_CALLS: u64 = Profile::MIN_CALLS * 2;

/// Plugins, and the model of every container that has one.
pub struct Models {
    /// Configured plugins, in the order of the configuration.
    configured: Vec<(PluginEntry, Plugin)>,
    builtin: Builtin,
    watched: BTreeMap<ContainerIndex, Watched>,
    cache: Option<PathBuf>,
}

struct Watched {
    plugin: Plugin,
    model: ModelId,
    model_id: String,
    vocabulary: Vocabulary,
    patterns: PatternIndex,
    thresholds: Thresholds,
    profile: ProfileBuilder,
    profile_calls: u64,
    profile_since_ns: Nanos,
}

/// The built-in plugin. Compiling it takes seconds where it was not compiled before; it is not
/// needed until something is watched.
enum Builtin {
    Waiting(PluginHost),
    Starting(JoinHandle<Result<Plugin, PluginError>>),
    Ready(Plugin),
    Failed(String),
}

/// The autoencoder's view of one container's last interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Stability {
    pub container: ContainerIndex,
    pub at_ns: Nanos,
    pub stability: f64,
    pub latent: Vec<f32>,
}

impl Models {
    /// Starts the configured plugins. `cache`: where compiled ones are kept.
    pub fn new(config: &PluginsConfig, cache: Option<PathBuf>) -> anyhow::Result<Self> {
        let host = PluginHost::new(HostConfig {
            memory: usize::try_from(config.memory.bytes()).unwrap_or(usize::MAX),
            deadline: config.deadline,
            compiled: cache.clone(),
            ..HostConfig::default()
        })?;
        let mut configured = Vec::new();
        for entry in &config.load {
            let name = entry.file.display().to_string();
            let bytes = std::fs::read(&entry.file).with_context(|| format!("plugin {name}"))?;
            compile_beside(&host, &bytes, Some(&entry.file), cache.as_deref());
            configured.push((entry.clone(), host.load(&name, &bytes)?));
        }
        Ok(Self {
            configured,
            builtin: Builtin::Waiting(host),
            watched: BTreeMap::new(),
            cache,
        })
    }

    /// Begins to start the built-in plugin. Call it on a tokio runtime, and once the capture runs:
    /// the process that compiles is then known as the sidecar's own.
    pub fn begin(&mut self) {
        let cache = self.cache.clone();
        let waiting = std::mem::replace(&mut self.builtin, Builtin::Failed(String::new()));
        self.builtin = match waiting {
            Builtin::Waiting(host) => Builtin::Starting(tokio::task::spawn_blocking(move || {
                compile_beside(&host, GENERIC_COMPONENT, None, cache.as_deref());
                host.load("generic", GENERIC_COMPONENT)
            })),
            begun => begun,
        };
    }

    /// From now on windows of `container` are judged by `bundle`.
    pub async fn watch(
        &mut self,
        container: ContainerIndex,
        name: &str,
        bundle: &Bundle,
        model_id: &str,
    ) -> anyhow::Result<PluginIdentity> {
        let configured = self
            .configured
            .iter()
            .find(|(entry, _)| serves(entry, name));
        let plugin = match configured {
            Some((_, plugin)) => plugin.clone(),
            None => self.builtin.plugin().await?,
        };
        let loaded = plugin
            .load_model(Arc::from(bundle.model.as_slice()))
            .await?;
        let vocabulary = Vocabulary::new(bundle.vocabulary.iter().copied());
        let watched = Watched {
            model: loaded.id,
            model_id: model_id.to_owned(),
            patterns: PatternIndex::new(&bundle.patterns, PATTERN_FLOOR, PATTERN_CACHE),
            thresholds: bundle.thresholds.clone(),
            profile: ProfileBuilder::new(
                bundle.profile_layout.clone(),
                vocabulary.clone(),
                &bundle.card.arch,
            ),
            vocabulary,
            profile_calls: 0,
            profile_since_ns: 0,
            plugin,
        };
        let identity = watched.identity();
        if let Some(old) = self.watched.insert(container, watched) {
            let _ = old.plugin.unload_model(old.model).await;
        }
        Ok(identity)
    }

    /// Name and version of the plugin that judges a container, and the model's id.
    pub fn identity(&self, container: ContainerIndex) -> Option<(PluginIdentity, String)> {
        let watched = self.watched.get(&container)?;
        Some((watched.identity(), watched.model_id.clone()))
    }

    /// The plugins, for their counters.
    pub fn plugins(&self) -> impl Iterator<Item = &Plugin> {
        let builtin = match &self.builtin {
            Builtin::Ready(plugin) => Some(plugin),
            Builtin::Waiting(_) | Builtin::Starting(_) | Builtin::Failed(_) => None,
        };
        self.configured
            .iter()
            .map(|(_, plugin)| plugin)
            .chain(builtin)
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
        for (container, watched) in &self.watched {
            let mine: Vec<usize> = (0..judged.len())
                .filter(|index| judged[*index].window.container == *container)
                .collect();
            if mine.is_empty() {
                continue;
            }
            let asked = mine
                .iter()
                .map(|index| watched.tokens(&judged[*index]))
                .collect();
            match watched.plugin.score(watched.model, asked).await {
                Ok(verdicts) => {
                    for (index, verdict) in mine.into_iter().zip(verdicts) {
                        judged[index].verdict = Some(verdict);
                    }
                }
                Err(error) => {
                    let windows = mine.len();
                    tracing::warn!(%error, windows, "windows stay without a verdict");
                }
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
            match watched
                .plugin
                .assess(watched.model, vec![profile.values])
                .await
            {
                Ok(assessments) => all.extend(assessments.into_iter().map(|assessment| {
                    let error = f64::from(assessment.reconstruction_error);
                    Stability {
                        container: *container,
                        at_ns: now_ns,
                        stability: watched.thresholds.stability(error),
                        latent: assessment.latent,
                    }
                })),
                Err(error) => tracing::warn!(%error, "stability was not assessed"),
            }
        }
        all
    }
}

impl Builtin {
    async fn plugin(&mut self) -> anyhow::Result<Plugin> {
        if let Builtin::Starting(starting) = self {
            let started = starting.await.map_err(anyhow::Error::from);
            *self = match started.and_then(|result| result.map_err(anyhow::Error::from)) {
                Ok(plugin) => Builtin::Ready(plugin),
                Err(error) => Builtin::Failed(format!("{error:#}")),
            };
        }
        match self {
            Builtin::Ready(plugin) => Ok(plugin.clone()),
            Builtin::Failed(reason) => Err(anyhow::anyhow!("{reason}")),
            Builtin::Waiting(_) | Builtin::Starting(_) => {
                Err(anyhow::anyhow!("the built-in plugin was not started"))
            }
        }
    }
}

impl Watched {
    /// Finds the window's pattern and adds the window to the profile.
    fn take(&mut self, window: &Window) -> Option<u32> {
        let pattern = self
            .patterns
            .nearest(&window.codes())
            .map(|(index, _)| index);
        self.profile.window(window, pattern);
        self.profile_calls += window.calls.len() as u64;
        pattern.and_then(|index| u32::try_from(index).ok())
    }

    fn tokens(&self, judged: &JudgedWindow) -> TokenWindow {
        let calls = judged.window.calls.iter();
        TokenWindow {
            pattern: judged.pattern,
            tokens: calls.map(|call| self.vocabulary.id(&call.token)).collect(),
        }
    }

    fn profile_due(&mut self, now_ns: Nanos) -> Option<Profile> {
        let lasted = Duration::from_nanos(now_ns.saturating_sub(self.profile_since_ns));
        if self.profile_calls < PROFILE_CALLS || lasted < Duration::from_nanos(PROFILE_NS) {
            return None;
        }
        self.profile_calls = 0;
        self.profile_since_ns = now_ns;
        let profile = self.profile.finish();
        profile.is_sufficient().then_some(profile)
    }

    fn identity(&self) -> PluginIdentity {
        let about = self.plugin.description();
        PluginIdentity {
            name: about.name.clone(),
            version: about.version.clone(),
        }
    }
}

/// Has a component that was not compiled before compiled by a process of its own, so that the
/// sidecar stays small. Where that fails, loading compiles.
fn compile_beside(host: &PluginHost, component: &[u8], file: Option<&Path>, cache: Option<&Path>) {
    let Some(cache) = cache.filter(|_| host.must_compile(component)) else {
        return;
    };
    let compiled = std::env::current_exe().and_then(|program| {
        let mut command = Command::new(program);
        command
            .args(["plugin", "compile", "--into"])
            .arg(cache)
            .args(file);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
    });
    match compiled {
        Ok(status) if status.success() => {}
        Ok(status) => tracing::debug!(%status, "a plugin was not compiled beside the sidecar"),
        Err(error) => tracing::debug!(%error, "a plugin was not compiled beside the sidecar"),
    }
}

fn serves(entry: &PluginEntry, container: &str) -> bool {
    let fits = |wanted: &Option<String>| wanted.as_deref().is_none_or(|name| container == name);
    fits(&entry.serves.container) && entry.serves.image.is_none()
}
