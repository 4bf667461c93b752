//! The engine that all plugins share, and the handle to one plugin.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;

use stethos_patterns::usage;
use tokio::sync::{mpsc, oneshot};
use wasmtime::component::Linker;
use wasmtime::{Config, Engine, OptLevel};

use super::HostConfig;
use super::compiled;
use super::contract::{
    self, Assessment, CONTRACT, Description, ModelShape, PatternPluginPre, TokenWindow, Usage,
};
use super::error::PluginError;
use super::limits::Ticker;
use super::metrics::{PluginMetrics, PluginSnapshot};
use super::worker::{Request, Worker};
use crate::diagnosis::verdict::Verdict;

/// Compiles and starts plugins.
pub struct PluginHost {
    engine: Engine,
    ticker: Ticker,
    config: Arc<HostConfig>,
}

/// A model in a [`Plugin`], for the plugin's life; it outlasts restarts of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelId(pub(super) u32);

/// A loaded model and what the guest found in it.
#[derive(Clone, Copy, Debug)]
pub struct LoadedModel {
    pub id: ModelId,
    pub shape: ModelShape,
}

impl PluginHost {
    /// Starts the engine. Fails when this machine cannot run it.
    pub fn new(config: HostConfig) -> Result<Self, PluginError> {
        let runtime = |error: &dyn std::fmt::Display| PluginError::Runtime(format!("{error:#}"));
        let mut engine = Config::new();
        engine.epoch_interruption(true);
        engine.cranelift_opt_level(OptLevel::Speed);
        // Relaxed instructions may differ between CPUs; a score may not.
        engine.wasm_relaxed_simd(false);
        engine.generate_address_map(false);
        engine.wasm_backtrace_max_frames(None);
        let engine = Engine::new(&engine).map_err(|error| runtime(&error))?;
        let ticker = Ticker::start(&engine).map_err(|error| runtime(&error))?;
        Ok(PluginHost {
            engine,
            ticker,
            config: Arc::new(config),
        })
    }

    /// Whether loading `component` would compile it: that takes seconds, and memory that a
    /// process does not give back.
    pub fn must_compile(&self, component: &[u8]) -> bool {
        let folder = self.config.compiled.as_deref();
        !folder.is_some_and(|folder| compiled::is_kept(&self.engine, component, folder))
    }

    /// Compiles `component`, checks that it fits the contract and imports nothing, starts it on a
    /// thread of its own and asks for its description. Blocks, for seconds where the component is
    /// not among the compiled ones: async code calls this through `spawn_blocking`.
    pub fn load(&self, name: &str, component: &[u8]) -> Result<Plugin, PluginError> {
        let component = compiled::component(
            &self.engine,
            name,
            component,
            self.config.compiled.as_deref(),
        )?;
        contract::check(&self.engine, name, &component)?;
        let component = Linker::new(&self.engine)
            .instantiate_pre(&component)
            .and_then(PatternPluginPre::new)
            .map_err(|error| PluginError::DifferentContract {
                name: name.into(),
                expected: CONTRACT,
                reason: format!("{error:#}"),
            })?;
        let metrics = Arc::new(PluginMetrics::default());
        let worker = Worker::new(
            name,
            component,
            self.ticker.clone(),
            Arc::clone(&self.config),
            Arc::clone(&metrics),
        );
        let (requests, received) = mpsc::channel(self.config.queue.max(1));
        let (started, description) = sync_channel(1);
        thread::Builder::new()
            .name(format!("plugin-{name}"))
            .spawn(move || worker.run(&started, received))
            .map_err(|error| PluginError::Runtime(error.to_string()))?;
        let stopped = || PluginError::Stopped { name: name.into() };
        let description = description.recv().map_err(|_| stopped())??;
        Ok(Plugin {
            name: name.into(),
            description,
            requests,
            metrics,
        })
    }
}

/// One running plugin. Clones share it; it ends with the last of them. Calls wait where the
/// plugin's queue is full.
#[derive(Clone)]
pub struct Plugin {
    name: Arc<str>,
    description: Description,
    requests: mpsc::Sender<Request>,
    metrics: Arc<PluginMetrics>,
}

impl Plugin {
    /// The name that it was loaded under.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn description(&self) -> &Description {
        &self.description
    }

    pub fn metrics(&self) -> PluginSnapshot {
        self.metrics.snapshot()
    }

    /// How well its application type fits what a container does, 0…1.
    pub async fn fit(&self, usage: &usage::Usage) -> Result<f32, PluginError> {
        let usage = Arc::new(Usage::from(usage));
        self.ask(|reply| Request::Fit { usage, reply }).await
    }

    /// Loads a bundle's model section (safetensors).
    pub async fn load_model(&self, model: Arc<[u8]>) -> Result<LoadedModel, PluginError> {
        self.ask(|reply| Request::Load { model, reply }).await
    }

    /// Drops a model; unknown ones are ignored.
    pub async fn unload_model(&self, model: ModelId) -> Result<(), PluginError> {
        self.ask(|reply| Request::Unload { model, reply }).await
    }

    /// One verdict per window, in order.
    pub async fn score(
        &self,
        model: ModelId,
        windows: Vec<TokenWindow>,
    ) -> Result<Vec<Verdict>, PluginError> {
        self.ask(|reply| Request::Score {
            model,
            windows,
            reply,
        })
        .await
    }

    /// One assessment per profile, in order.
    pub async fn assess(
        &self,
        model: ModelId,
        profiles: Vec<Vec<f32>>,
    ) -> Result<Vec<Assessment>, PluginError> {
        self.ask(|reply| Request::Assess {
            model,
            profiles,
            reply,
        })
        .await
    }

    async fn ask<R>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<R, PluginError>>) -> Request,
    ) -> Result<R, PluginError> {
        let stopped = || PluginError::Stopped {
            name: self.name.to_string(),
        };
        let (reply, answer) = oneshot::channel();
        self.requests
            .send(request(reply))
            .await
            .map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}
